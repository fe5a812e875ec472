//! STUN and TURN servers, from the command line, a file and the environment.
//!
//! Arguments can be seen by other users of a machine, so passwords belong into the file or the
//! environment. No message repeats a server's URL, because it may contain the password.

use std::path::Path;

use anyhow::Context;
use call::IceServer;

/// Environment variable with URLs, separated by white space.
pub(crate) const VARIABLE: &str = "FEATHERCALL_ICE_SERVERS";

/// What a server looks like, for messages about one that does not.
const FORM: &str = "write stun:HOST:PORT or turn:USER:PASSWORD@HOST:PORT";

/// Longest file of servers that is read, bytes.
const MAX_FILE_BYTES: u64 = 1 << 16;

/// Collects the servers given as arguments, in a file with one URL in each line, and in the value of
/// [`VARIABLE`].
///
/// # Errors
/// If the file cannot be read or a URL is malformed.
pub(crate) fn collect(
    arguments: &[String],
    file: Option<&Path>,
    variable: Option<&str>,
) -> anyhow::Result<Vec<IceServer>> {
    let file = file
        .map(|path| {
            capture::read_file(path, MAX_FILE_BYTES)
                .map_err(anyhow::Error::from)
                .and_then(|bytes| Ok(String::from_utf8(bytes)?))
                .with_context(|| format!("cannot read {}", path.display()))
        })
        .transpose()?
        .unwrap_or_default();
    let lines =
        file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let sources: [(&str, Vec<&str>); 3] = [
        ("--ice-server", arguments.iter().map(String::as_str).collect()),
        ("--ice-servers-from", lines.collect()),
        (VARIABLE, variable.unwrap_or_default().split_whitespace().collect()),
    ];
    let mut servers = Vec::new();
    for (source, urls) in sources {
        for (number, url) in (1..).zip(urls) {
            servers.push(parse(url).with_context(|| format!("server {number} of {source}"))?);
        }
    }
    Ok(servers)
}

/// Parses a URL (RFC 7064, RFC 7065); `turn:user:password@host:port` contains credentials.
fn parse(url: &str) -> anyhow::Result<IceServer> {
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    let scheme = scheme.to_ascii_lowercase();
    let is_turn = match &*scheme {
        "stun" => false,
        "turn" => true,
        "stuns" | "turns" => anyhow::bail!(
            "{scheme}: (TLS) is not supported, only UDP; what passes is encrypted anyway; {FORM}"
        ),
        _ => anyhow::bail!("a server begins with stun: or turn:; {FORM}"),
    };
    let (login, address) = match rest.rsplit_once('@') {
        Some((login, address)) => (Some(login), address),
        None => (None, rest),
    };
    let (place, query) = match address.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (address, None),
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !port.contains(']') => (host, Some(port)),
        _ => (place, None),
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let is_ipv6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    anyhow::ensure!(
        is_ipv6.map_or(!host.is_empty() && host.chars().all(is_host), |address| {
            address.parse::<std::net::Ipv6Addr>().is_ok()
        }),
        "there is no host name or address in it; an IPv6 address stands in brackets; {FORM}"
    );
    anyhow::ensure!(
        port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0)),
        "its port is not a number from 1 to 65535; {FORM}"
    );
    anyhow::ensure!(
        query != Some("transport=tcp"),
        "transport=tcp is not supported, only UDP; {FORM}"
    );
    anyhow::ensure!(
        query.is_none_or(|query| is_turn && query == "transport=udp"),
        "after ? comes nothing but transport=udp, for a TURN server; {FORM}"
    );
    let (username, credential) = match login.map(|login| login.split_once(':')) {
        Some(Some((username, credential))) if is_turn && !username.is_empty() => {
            (username, credential)
        }
        None if !is_turn => ("", ""),
        _ if is_turn => anyhow::bail!("a TURN server needs a user name and a password; {FORM}"),
        _ => anyhow::bail!("a STUN server takes no user name and no password; {FORM}"),
    };
    Ok(IceServer {
        url: format!("{scheme}:{address}"),
        username: username.to_owned(),
        credential: credential.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_server_with_or_without_credentials() {
        for (text, url, username, credential) in [
            ("stun:stun.example.org:3478", "stun:stun.example.org:3478", "", ""),
            ("stun:192.0.2.1", "stun:192.0.2.1", "", ""),
            ("turn:ada:p@ss:w@host:3478", "turn:host:3478", "ada", "p@ss:w"),
            ("TURN:a:b@h:5349?transport=udp", "turn:h:5349?transport=udp", "a", "b"),
            ("stun:[2001:db8::1]:3478", "stun:[2001:db8::1]:3478", "", ""),
            ("stun:[::1]", "stun:[::1]", "", ""),
        ] {
            let server = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let (u, c) = (username.to_owned(), credential.to_owned());
            assert_eq!(server, IceServer { url: url.to_owned(), username: u, credential: c });
        }
    }

    #[test]
    fn a_malformed_url_is_refused_without_its_password() {
        for text in [
            "",
            "host:3478",
            "http://host",
            "stun:",
            "stun://host",
            "stun:host:port",
            "stun:host:0",
            "stun:host:65536",
            "stun:2001:db8::1",
            "stun:[::1",
            "stun:a:secret@host",
            "stun:host?transport=udp",
            "stuns:host",
            "turns:ada:secret@host:5349",
            "turn:ada:secret@host?transport=tcp",
            "turn:host",
            "turn:ada@host",
            "turn::secret@host",
            "turn:ada:secret@",
            "turn:ada:secret@host:x",
            "turn:ada:secret@host?transport=pigeon",
            "turn:ada:secret@ho st",
        ] {
            let error = collect(&[text.to_owned()], None, None).expect_err(text);
            let line = format!("{error:#}");
            assert!(line.starts_with("server 1 of --ice-server: "), "{line}");
            assert!(line.ends_with(FORM), "{line}");
            let is_other = text.contains("tcp") || text.contains("uns:") || text.contains("rns:");
            assert_eq!(line.contains("not supported"), is_other, "{line}");
            assert!(!line.contains("secret"), "{line}");
        }
    }

    #[test]
    fn servers_come_from_arguments_file_and_environment() {
        let path = std::env::temp_dir().join(format!("ice-servers-{}", std::process::id()));
        std::fs::write(&path, "# ours\n\n stun:b\n").unwrap();
        let servers = collect(&["stun:a".to_owned()], Some(&path), Some("stun:c\nstun:d")).unwrap();
        let urls: Vec<_> = servers.iter().map(|server| &*server.url).collect();
        assert_eq!(urls, ["stun:a", "stun:b", "stun:c", "stun:d"]);
        std::fs::write(&path, "#".repeat(MAX_FILE_BYTES as usize + 1)).unwrap();
        let error = collect(&[], Some(&path), None).unwrap_err();
        assert!(format!("{error:#}").contains("cannot read"), "{error:#}");
        std::fs::remove_file(&path).unwrap();
        let error = collect(&[], Some(&path), None).unwrap_err();
        assert!(format!("{error:#}").contains("cannot read"), "{error:#}");
    }
}
