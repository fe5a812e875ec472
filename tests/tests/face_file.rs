//! The built-in face file: its parameters do not change, and its layers can be used as they arrive.

use face::{FaceFile, FaceModel};
use transport::{Control, ModelReceiver, ModelSender};

/// The face that ships with the program.
const DEMO: &[u8] = include_bytes!("../../assets/demo.face");

/// For each layer: bytes of the public file up to its end, and the FNV-1a hash of the parameters'
/// bits.
///
/// If a hash changes although the file did not, the meaning of files has changed: fix the code, or
/// raise the version. A new built-in face has new values.
const LAYERS: [(usize, u64); 3] = [
    (58_224, 0x7ff5_a30f_e007_37ce),
    (159_553, 0x7702_56cf_81c6_2c2d),
    (251_504, 0x2602_8aca_c97a_716e),
];
/// Bytes that a link of 32 kbit/s transfers in 15 s.
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
fn the_built_in_face_has_exactly_these_layers_and_parameters() {
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
fn layers_are_usable_as_they_arrive_and_no_byte_is_sent_twice_after_a_reconnect() {
    let public = public();
    let offer = |sender: &mut ModelSender, before| {
        let Control::ModelOffer { n_bytes, hash } = sender.offer() else { unreachable!() };
        ModelReceiver::new(n_bytes, hash, before).unwrap()
    };
    let mut crossed = 0;
    let mut drawn = Vec::new();
    let mut before = None;
    // Two connections: the first breaks when the first layer has arrived.
    for n_layers in [1, 3] {
        let mut sender = ModelSender::new(public.clone().into()).unwrap();
        let (mut receiver, want) = offer(&mut sender, before.take());
        let mut reply = Some(want);
        while drawn.last().is_none_or(|(layers, _)| *layers < n_layers) {
            if let Some(Control::ModelRequest { hash, from }) = reply.take() {
                sender.handle_request(hash, from);
            }
            let Some(Control::ModelChunk { offset, bytes }) = sender.poll_chunk() else {
                panic!("the sender stopped after {crossed} bytes");
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
