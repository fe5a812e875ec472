//! The HTTP request with which a connection begins. Each connection has one request.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::handshake::server::{
    Request as Head, Response as Upgrade, create_response, write_response,
};
use tokio_tungstenite::tungstenite::http::StatusCode;

use super::refusals::Refusal;

/// Largest size of a request.
const MAX_REQUEST_BYTES: usize = 4 * 1024;
/// Ends a request.
const BLANK_LINE: &[u8] = b"\r\n\r\n";

/// What a client asks for.
#[derive(Debug)]
pub(super) enum Request {
    /// A seat in a room.
    Room {
        room: String,
        /// Answer that makes the connection a WebSocket.
        upgrade: Upgrade,
        /// What the client has sent after the request.
        rest: Vec<u8>,
    },
    /// The counters.
    Metrics,
    /// Something else, to be answered with a status and a line for people.
    Refused(Refusal, StatusCode, &'static str),
}

impl Request {
    /// Reads the request of a new connection.
    ///
    /// # Errors
    /// If the connection breaks.
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Self> {
        let mut bytes = Vec::with_capacity(512);
        loop {
            let seen = bytes.len();
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            // The blank line may have begun in the bytes that were seen before.
            let from = seen.saturating_sub(BLANK_LINE.len() - 1);
            if bytes[from..].windows(BLANK_LINE.len()).any(|window| window == BLANK_LINE) {
                return Ok(Self::parse(&bytes));
            }
            if bytes.len() >= MAX_REQUEST_BYTES {
                let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                return Ok(Self::Refused(Refusal::BadRequest, status, "the request is too large"));
            }
        }
    }

    fn parse(bytes: &[u8]) -> Self {
        let bad = |text| Self::Refused(Refusal::BadRequest, StatusCode::BAD_REQUEST, text);
        let Ok(Some((size, head))) = Head::try_parse(bytes) else {
            return bad("not an HTTP/1.1 GET request");
        };
        let path = head.uri().path();
        if path == "/metrics" {
            return Self::Metrics;
        }
        if path.starts_with("/v1/") {
            return Self::Refused(
                Refusal::OtherVersion,
                StatusCode::UPGRADE_REQUIRED,
                "this service speaks version 2 of the protocol; update Feathercall",
            );
        }
        let Some(room) = path.strip_prefix("/v2/").filter(|room| transport::is_room(room)) else {
            return Self::Refused(Refusal::BadRequest, StatusCode::NOT_FOUND, "no such room");
        };
        match create_response(&head) {
            Ok(upgrade) => {
                Self::Room { room: room.to_owned(), upgrade, rest: bytes[size..].to_vec() }
            }
            Err(_) => bad("a room is entered with a WebSocket"),
        }
    }
}

/// Accepts an upgrade to a WebSocket.
pub(super) async fn accept(
    stream: &mut (impl AsyncWrite + Unpin),
    upgrade: &Upgrade,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    write_response(&mut head, upgrade).map_err(std::io::Error::other)?;
    stream.write_all(&head).await
}

/// Answers with a text and ends the connection.
pub(super) async fn answer(
    stream: &mut (impl AsyncWrite + Unpin),
    status: StatusCode,
    text: &str,
) -> std::io::Result<()> {
    stream.write_all(response(status, text).as_bytes()).await?;
    stream.shutdown().await
}

/// Returns an HTTP response with a text.
pub(super) fn response(status: StatusCode, text: &str) -> String {
    // A response 426 names the protocol to upgrade to (RFC 9110, section 15.5.22).
    let upgrade = match status {
        StatusCode::UPGRADE_REQUIRED => "Upgrade: feathercall/2\r\nConnection: upgrade, close",
        _ => "Connection: close",
    };
    format!(
        "HTTP/1.1 {status}\r\n{upgrade}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\n\r\n{text}",
        text.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn upgrade_of(path: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    }

    /// Reads a request that arrives in pieces of this size.
    async fn read(text: &str, piece: usize) -> std::io::Result<Request> {
        let (mut near, mut far) = tokio::io::duplex(piece);
        let write = async {
            let _ = near.write_all(text.as_bytes()).await;
            drop(near);
            std::future::pending().await
        };
        tokio::select! {
            request = Request::read(&mut far) => request,
            request = write => request,
        }
    }

    #[tokio::test]
    async fn a_request_for_a_room_is_read_in_any_pieces() {
        let text = upgrade_of("/v2/0123456789abcdef") + "rest";
        for piece in [1, 3, 64, 4096] {
            let request = read(&text, piece).await.unwrap();
            let Request::Room { room, upgrade, rest } = request else { panic!("{request:?}") };
            assert_eq!(room, "0123456789abcdef");
            // The example of RFC 6455, section 1.3.
            assert_eq!(upgrade.headers()["Sec-WebSocket-Accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            assert!(rest.is_empty() || rest == b"rest");
        }
    }

    #[tokio::test]
    async fn everything_else_is_refused_with_a_reason() {
        use Refusal::{BadRequest, OtherVersion};
        for (text, refusal, status) in [
            (upgrade_of("/v1/0123456789abcdef"), OtherVersion, 426),
            (upgrade_of("/v2/short"), BadRequest, 404),
            (upgrade_of("/"), BadRequest, 404),
            ("GET /v2/0123456789abcdef HTTP/1.1\r\nHost: x\r\n\r\n".into(), BadRequest, 400),
            ("POST /metrics HTTP/1.1\r\n\r\n".into(), BadRequest, 400),
            ("\0\r\n\r\n".into(), BadRequest, 400),
            ("GET / HTTP/1.1\r\nX: ".to_owned() + &"y".repeat(10_000), BadRequest, 431),
        ] {
            let request = read(&text, 512).await.unwrap();
            let Request::Refused(why, code, _) = request else { panic!("{request:?}") };
            assert_eq!((why, code.as_u16()), (refusal, status), "{text}");
        }
        let metrics = read("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 512).await.unwrap();
        assert!(matches!(metrics, Request::Metrics));
        assert!(read("GET /metr", 512).await.is_err(), "cut short");
    }

    #[test]
    fn a_response_is_complete() {
        let text = response(StatusCode::UPGRADE_REQUIRED, "update");
        assert!(text.starts_with("HTTP/1.1 426 Upgrade Required\r\nUpgrade: "), "{text}");
        assert!(text.ends_with("Content-Length: 6\r\n\r\nupdate"), "{text}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Request::parse(&bytes);
            let _ = Request::parse(&[b"GET /v2/", &bytes[..], b" HTTP/1.1\r\n\r\n"].concat());
        }
    }
}
