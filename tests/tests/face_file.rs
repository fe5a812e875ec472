//! The built-in face as a file: are its numbers still its numbers, and does it come in layers?

use face::{FaceFile, FaceModel};
use transport::{Control, ModelReceiver, ModelSender};

/// The face that ships with the program.
const DEMO: &[u8] = include_bytes!("../../assets/demo.face");

/// Bytes of the public file up to the end of each layer, and FNV-1a of the parameters' bits.
///
/// If the second fails for a file that did not change, what a file means has changed: fix the
/// code, or raise the version. A new built-in face brings new numbers.
const LAYERS: [(usize, u64); 3] = [
    (58_224, 0x7ff5_a30f_e007_37ce),
    (159_553, 0x7702_56cf_81c6_2c2d),
    (251_504, 0x2602_8aca_c97a_716e),
];
/// What a line of 32 kbit/s brings in 15 s.
const FIRST_LAYER: usize = 60_000;

fn fingerprint(model: &FaceModel) -> u64 {
    let bytes = model.params().iter().flat_map(|v| v.to_bits().to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn public() -> Vec<u8> {
    FaceFile::parse(DEMO).unwrap().public_bytes()
}

#[test]
fn the_built_in_face_has_exactly_these_layers_and_numbers() {
    let public = public();
    for (layers, (end, hash)) in LAYERS.into_iter().enumerate() {
        let file = FaceFile::parse(&public[..end]).unwrap();
        assert_eq!(file.n_layers(), (layers + 1, 3));
        assert_eq!(fingerprint(&file.model), hash, "{} layers", layers + 1);
    }
    assert_eq!(public.len(), LAYERS[2].0);
    assert!(LAYERS[0].0 <= FIRST_LAYER);
}

#[test]
fn a_face_that_is_still_coming_can_be_drawn_and_nothing_comes_twice() {
    let public = public();
    let offer = |sender: &ModelSender, before| {
        let Control::ModelOffer { n_bytes, hash } = sender.offer() else { unreachable!() };
        ModelReceiver::new(n_bytes, hash, before).unwrap()
    };
    let mut crossed = 0;
    let mut drawn = Vec::new();
    let mut before = None;
    // Two connections: the first breaks once the first layer is there.
    for lasting in [1, 3] {
        let mut sender = ModelSender::new(public.clone().into()).unwrap();
        let (mut receiver, want) = offer(&sender, before.take());
        let mut reply = Some(want);
        while drawn.last().is_none_or(|(layers, _)| *layers < lasting) {
            if let Some(Control::ModelRequest { hash, from }) = reply.take() {
                sender.handle_request(hash, from);
            }
            let Some(Control::ModelChunk { offset, bytes }) = sender.poll_chunk() else {
                panic!("the sender waits at {crossed} bytes");
            };
            crossed += bytes.len();
            reply = receiver.handle_chunk(offset, &bytes).unwrap();
            if let Some(arrived) = FaceFile::progress(receiver.received()).unwrap()
                && arrived.layers > drawn.last().map_or(0, |(layers, _)| *layers)
            {
                let model =
                    FaceFile::parse(&receiver.received()[..arrived.usable_bytes]).unwrap().model;
                drawn.push((arrived.layers, fingerprint(&model)));
            }
        }
        before = Some(receiver);
    }
    assert_eq!(drawn, [(1, LAYERS[0].1), (2, LAYERS[1].1), (3, LAYERS[2].1)]);
    assert_eq!(crossed, public.len());
}
