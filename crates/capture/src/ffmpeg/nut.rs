//! NUT container with one stream, as `ffmpeg` writes it into a pipe.
//!
//! Of the simple containers it is the one that carries exact times of uncompressed frames and says where the
//! stream ends. Checksums are skipped: the bytes come from a process on this computer.

use std::io::{self, BufRead, Read};

/// First bytes of every stream.
const MAGIC: &[u8] = b"nut/multimedia container\0";
/// Marks that begin packets. A frame begins with any byte but `N`.
const MAIN: u64 = 0x4E4D_7A56_1F5F_04AD;
const STREAM: u64 = 0x4E53_1140_5BF2_F9DB;
const SYNCPOINT: u64 = 0x4E4B_E4AD_EECA_4569;
const INDEX: u64 = 0x4E58_DD67_2F23_E64E;
/// Longest header packet that is read, bytes.
const MAX_HEADER: u64 = 1 << 20;
/// Longest frame that is read, bytes: 8192 x 8192 pixels of three 16-bit samples.
const MAX_FRAME: u64 = 8192 * 8192 * 6;

/// Flags of a frame.
const CODED_PTS: u64 = 8;
const STREAM_ID: u64 = 16;
const SIZE_MSB: u64 = 32;
const CHECKSUM: u64 = 64;
const RESERVED: u64 = 128;
const SIDE_DATA: u64 = 256;
const HEADER_IDX: u64 = 1024;
const MATCH_TIME: u64 = 2048;
const CODED: u64 = 4096;
const INVALID: u64 = 8192;

/// What one value of a frame's first byte means.
#[derive(Clone, Copy, Debug, Default)]
struct FrameCode {
    flags: u64,
    pts_delta: i64,
    size_mul: u64,
    size_lsb: u64,
    n_reserved: u64,
    header_idx: u64,
}

/// Reader of the frames of one stream.
///
/// # Source
/// M. Niedermayer and others, "NUT Open Container Format", version 3 and 4.
pub(crate) struct NutReader<R> {
    input: R,
    /// Seconds of a unit of time, as fractions.
    time_bases: Vec<(u64, u64)>,
    codes: Vec<FrameCode>,
    /// First bytes that frames may leave out; number 0 is empty.
    elided: Vec<Vec<u8>>,
    time_base: (u64, u64),
    pts_shift: u32,
    last_pts: i64,
    size: (u32, u32),
}

impl<R: BufRead> NutReader<R> {
    /// Reads the headers.
    ///
    /// # Errors
    /// If the input ends ([`io::ErrorKind::UnexpectedEof`]), cannot be read, or is not NUT with one stream.
    pub(crate) fn new(mut input: R) -> io::Result<Self> {
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(malformed());
        }
        let mut reader = Self {
            input,
            time_bases: Vec::new(),
            codes: Vec::new(),
            elided: Vec::new(),
            time_base: (0, 0),
            pts_shift: 0,
            last_pts: 0,
            size: (0, 0),
        };
        while reader.time_base == (0, 0) {
            let mark = u64::from_be_bytes(reader.bytes()?);
            let body = reader.packet()?;
            match mark {
                MAIN => reader.parse_main(&body)?,
                STREAM => reader.parse_stream(&body)?,
                _ => {}
            }
        }
        Ok(reader)
    }

    /// Returns width and height of a video stream, pixels; zero for sound.
    pub(crate) fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Reads the next frame into `bytes` and returns its time in microseconds; `None` after the last one.
    ///
    /// # Errors
    /// If the input ends before the stream does ([`io::ErrorKind::UnexpectedEof`]), cannot be read, or is
    /// malformed.
    pub(crate) fn next_frame(&mut self, bytes: &mut Vec<u8>) -> io::Result<Option<i64>> {
        loop {
            let [code] = self.bytes()?;
            if code != b'N' {
                return self.frame(code, bytes).map(Some);
            }
            let rest: [u8; 7] = self.bytes()?;
            let mut mark = [code; 8];
            mark[1..].copy_from_slice(&rest);
            match u64::from_be_bytes(mark) {
                INDEX => {
                    // The writer may end; nobody needs its index.
                    io::copy(&mut self.input, &mut io::sink())?;
                    return Ok(None);
                }
                SYNCPOINT => {
                    let body = self.packet()?;
                    self.parse_syncpoint(&body)?;
                }
                _ => drop(self.packet()?),
            }
        }
    }

    fn frame(&mut self, code: u8, bytes: &mut Vec<u8>) -> io::Result<i64> {
        let FrameCode { mut flags, pts_delta, size_mul, size_lsb, mut n_reserved, mut header_idx } =
            self.codes[usize::from(code)];
        if flags & CODED != 0 {
            flags ^= varint(&mut self.input)?;
        }
        if flags & (INVALID | SIDE_DATA) != 0 {
            return Err(malformed());
        }
        if flags & STREAM_ID != 0 && varint(&mut self.input)? != 0 {
            return Err(malformed());
        }
        let pts = if flags & CODED_PTS == 0 {
            self.last_pts.checked_add(pts_delta).ok_or_else(malformed)?
        } else {
            let coded = i64::try_from(varint(&mut self.input)?).map_err(|_| malformed())?;
            let span = 1_i64 << self.pts_shift;
            if coded < span {
                let earliest = self.last_pts.saturating_sub((span - 1) / 2);
                (coded.wrapping_sub(earliest) & (span - 1)).saturating_add(earliest)
            } else {
                coded - span
            }
        };
        let mut size = size_lsb;
        if flags & SIZE_MSB != 0 {
            let msb = varint(&mut self.input)?;
            size = msb
                .checked_mul(size_mul)
                .and_then(|s| s.checked_add(size))
                .ok_or_else(malformed)?;
        }
        if flags & MATCH_TIME != 0 {
            varint(&mut self.input)?;
        }
        if flags & HEADER_IDX != 0 {
            header_idx = varint(&mut self.input)?;
        }
        if flags & RESERVED != 0 {
            n_reserved = varint(&mut self.input)?;
        }
        for _ in 0..n_reserved {
            varint(&mut self.input)?;
        }
        if flags & CHECKSUM != 0 {
            self.bytes::<4>()?;
        }
        // Long frames are whole, whatever their code says.
        let header_idx = if size > 4096 { 0 } else { header_idx };
        let header = usize::try_from(header_idx).ok().and_then(|idx| self.elided.get(idx));
        bytes.clear();
        bytes.extend_from_slice(header.ok_or_else(malformed)?);
        let left = size.checked_sub(bytes.len() as u64).filter(|_| size <= MAX_FRAME);
        read_to(&mut self.input, left.ok_or_else(malformed)?, bytes)?;
        self.last_pts = pts;
        let (num, den) = self.time_base;
        let micros = i128::from(pts) * i128::from(num) * 1_000_000 / i128::from(den);
        i64::try_from(micros).map_err(|_| malformed())
    }

    fn parse_main(&mut self, mut body: &[u8]) -> io::Result<()> {
        let input = &mut body;
        let version = varint(input)?;
        if version > 3 {
            varint(input)?;
        }
        let n_streams = varint(input)?;
        let _max_distance = varint(input)?;
        let n_time_bases = varint(input)?;
        if !(2..=4).contains(&version) || n_streams != 1 || n_time_bases > MAX_HEADER {
            return Err(malformed());
        }
        self.time_bases.clear();
        for _ in 0..n_time_bases {
            let (num, den) = (varint(input)?, varint(input)?);
            if num == 0 || den == 0 || num.max(den) > u64::from(u32::MAX) {
                return Err(malformed());
            }
            self.time_bases.push((num, den));
        }
        self.codes = parse_codes(input)?;
        self.elided = vec![Vec::new()];
        for _ in 0..varint(input)?.min(128) {
            let mut header = Vec::new();
            let length = varint(input)?;
            read_to(input, length.min(MAX_HEADER), &mut header)?;
            self.elided.push(header);
        }
        Ok(())
    }

    fn parse_stream(&mut self, mut body: &[u8]) -> io::Result<()> {
        let input = &mut body;
        let (_id, class) = (varint(input)?, varint(input)?);
        skip_bytes(input)?;
        let time_base = usize::try_from(varint(input)?).map_err(|_| malformed())?;
        self.time_base = *self.time_bases.get(time_base).ok_or_else(malformed)?;
        self.pts_shift =
            u32::try_from(varint(input)?).ok().filter(|s| *s < 32).ok_or_else(malformed)?;
        let (_max_pts_distance, _decode_delay, _flags) =
            (varint(input)?, varint(input)?, varint(input)?);
        skip_bytes(input)?;
        if class == 0 {
            let side = |side: u64| u32::try_from(side).map_err(|_| malformed());
            self.size = (side(varint(input)?)?, side(varint(input)?)?);
        }
        Ok(())
    }

    /// Sets the time to which the next frame's is relative.
    fn parse_syncpoint(&mut self, mut body: &[u8]) -> io::Result<()> {
        let n_bases = self.time_bases.len() as u64;
        let coded = varint(&mut body)?;
        let (num, den) = self.time_bases[(coded % n_bases) as usize];
        let (stream_num, stream_den) = self.time_base;
        let scale = |value: u64, by: u64| i128::from(value) * i128::from(by);
        let units = scale(coded / n_bases, num) * i128::from(stream_den) / scale(den, stream_num);
        self.last_pts = i64::try_from(units).map_err(|_| malformed())?;
        Ok(())
    }

    /// Reads the body of a packet, with its checksum.
    fn packet(&mut self) -> io::Result<Vec<u8>> {
        let length = varint(&mut self.input)?;
        if length > 4096 {
            self.bytes::<4>()?;
        }
        let mut body = Vec::new();
        if length > MAX_HEADER {
            return Err(malformed());
        }
        read_to(&mut self.input, length, &mut body)?;
        Ok(body)
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Reads the table of what the first byte of a frame means.
fn parse_codes(input: &mut &[u8]) -> io::Result<Vec<FrameCode>> {
    let mut codes = Vec::with_capacity(256);
    let mut code = FrameCode { size_mul: 1, ..FrameCode::default() };
    while codes.len() < 256 {
        code.flags = varint(input)?;
        let n_fields = varint(input)?;
        if n_fields > 0 {
            code.pts_delta = signed(varint(input)?);
        }
        if n_fields > 1 {
            code.size_mul = varint(input)?;
        }
        if n_fields > 2 {
            varint(input)?;
        }
        code.size_lsb = if n_fields > 3 { varint(input)? } else { 0 };
        code.n_reserved = if n_fields > 4 { varint(input)? } else { 0 };
        let count = match n_fields {
            0..=5 => code.size_mul.saturating_sub(code.size_lsb),
            _ => varint(input)?,
        };
        if n_fields > 6 {
            varint(input)?;
        }
        if n_fields > 7 {
            code.header_idx = varint(input)?;
        }
        for _ in 8..n_fields {
            varint(input)?;
        }
        if count == 0 || count > 256 {
            return Err(malformed());
        }
        for _ in 0..count {
            if codes.len() == usize::from(b'N') {
                codes.push(FrameCode { flags: INVALID, ..code });
            }
            codes.push(code);
            code.size_lsb = code.size_lsb.saturating_add(1);
        }
    }
    if codes.len() == 256 { Ok(codes) } else { Err(malformed()) }
}

/// Reads a number of variable length, seven bits in a byte, the highest first.
fn varint(input: &mut impl Read) -> io::Result<u64> {
    let mut value = 0_u64;
    for _ in 0..10 {
        let mut byte = [0];
        input.read_exact(&mut byte)?;
        value = value << 7 | u64::from(byte[0] & 0x7F);
        if byte[0] & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed())
}

/// Returns the signed number that a number of variable length stands for.
fn signed(coded: u64) -> i64 {
    let value = coded.wrapping_add(1);
    let half = (value >> 1) as i64;
    if value & 1 == 1 { -half } else { half }
}

/// Skips a run of bytes that begins with its length.
fn skip_bytes(input: &mut &[u8]) -> io::Result<()> {
    let length = usize::try_from(varint(input)?).map_err(|_| malformed())?;
    *input = input.get(length..).ok_or_else(malformed)?;
    Ok(())
}

/// Appends `length` bytes. The buffer grows with the bytes that are there, not with the length claimed.
fn read_to(input: &mut impl Read, length: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    let n_read = input.take(length).read_to_end(bytes)? as u64;
    if n_read == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not the NUT stream that was asked for")
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    /// Two sound frames of four bytes, 20 ms apart, written with `printf aaaabbbb | ffmpeg -f s16le -ar 100 -ac 1
    /// -i - -af asetnsamples=2 -c:a pcm_s16le -fflags +bitexact -bitexact -f nut -`.
    const STREAM_OF_TWO: &[u8] = &hex!(
        "6e75742f6d756c74696d6564696120636f6e7461696e6572004e4d7a561f5f04"
        "ad4f030181ff7f010164c00006000000000001a0000201012801002900010400"
        "0400020104010400022102018176c00006000000000001060300000104000001"
        "b602fffa02fffb02fffc02fffd42084cf34e5311405bf2f9db14000104505344"
        "10000764000000640101140572d04e49ab68b596ba7809000000000000000000"
        "4e49ab68b596ba7821010000000107656e636f646572020e4c6176632070636d"
        "5f7331366c65cc81d6214e4be4adeeca45690600000000000003000461616161"
        "030204626262624e58dd672f23e64e1002010c03000000000000001996184696"
    );

    fn frames(bytes: &[u8]) -> io::Result<Vec<(i64, Vec<u8>)>> {
        let mut reader = NutReader::new(bytes)?;
        let (mut frames, mut frame) = (Vec::new(), Vec::new());
        while let Some(time) = reader.next_frame(&mut frame)? {
            frames.push((time, frame.clone()));
        }
        Ok(frames)
    }

    #[test]
    fn frames_come_with_their_times_and_end_with_the_index() {
        let read = frames(STREAM_OF_TWO).unwrap();
        assert_eq!(read, [(0, b"aaaa".to_vec()), (20_000, b"bbbb".to_vec())]);
    }

    #[test]
    fn a_stream_without_its_end_is_an_error_wherever_it_is_cut() {
        let index = STREAM_OF_TWO.windows(8).position(|w| w == INDEX.to_be_bytes()).unwrap();
        for length in 0..index {
            let error = frames(&STREAM_OF_TWO[..length]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(
            changes: Vec<(usize, u8)>, tail: Vec<u8>,
        ) {
            let mut bytes = STREAM_OF_TWO.to_vec();
            for (at, value) in changes.into_iter().take(8) {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            bytes.extend(tail);
            let _ = frames(&bytes);
        }
    }
}
