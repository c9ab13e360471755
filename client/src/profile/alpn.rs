//! What the hello carrier offers to speak to the website (RFC 7301), and its first words in it. Where the
//! token is recognised neither is spoken.

use postern_shared::hello::HostName;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    H2,
    Http1,
}

impl Alpn {
    /// The protocol's registered name.
    pub fn name(self) -> &'static str {
        match self {
            Alpn::H2 => "h2",
            Alpn::Http1 => "http/1.1",
        }
    }

    /// A request for the first page of `name`.
    pub fn get(self, name: &HostName) -> Vec<u8> {
        match self {
            Alpn::Http1 => format!(
                "GET / HTTP/1.1\r\nHost: {name}\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\n\
                 Connection: close\r\n\r\n"
            )
            .into_bytes(),
            Alpn::H2 => h2(name),
        }
    }
}

/// What is offered unless the profile says otherwise: who offers h2 has to be able to speak it.
pub(super) fn usual() -> Vec<Alpn> {
    vec![Alpn::Http1]
}

pub(super) fn is_usual(alpn: &[Alpn]) -> bool {
    alpn == usual()
}

/// Connection preface, our settings (all as they are by default), and one request on stream 1 (RFC 9113,
/// 3.4, 6.5, 6.2), its fields from the static table of RFC 7541 but for the name.
fn h2(name: &HostName) -> Vec<u8> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const HEADERS: u8 = 1;
    const END_STREAM_AND_HEADERS: u8 = 5;
    const GET: u8 = 0x82;
    const ROOT: u8 = 0x84;
    const HTTPS: u8 = 0x87;
    /// A literal without indexing whose name is the table's first entry.
    const AUTHORITY: u8 = 0x01;

    let name = name.as_str().as_bytes();
    let mut fields = vec![GET, ROOT, HTTPS, AUTHORITY];
    // An integer with a prefix of seven bits (RFC 7541, 5.1); a host name has at most 253 bytes.
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    match length.checked_sub(0x7f) {
        Some(rest) => fields.extend([0x7f, rest]),
        None => fields.push(length),
    }
    fields.extend(name);
    let length = u16::try_from(fields.len()).unwrap_or(u16::MAX).to_be_bytes();
    let frame = [0, length[0], length[1], HEADERS, END_STREAM_AND_HEADERS, 0, 0, 0, 1];
    [PREFACE, &SETTINGS, &frame, &fields].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541, 5.1: 127 and more do not fit a prefix of seven bits.
    #[test]
    fn a_long_name_has_a_long_length() {
        let label = "a".repeat(63);
        for (name, length) in [
            ("www.example.com".to_owned(), vec![15]),
            ([&label[..]; 3].join("."), vec![0x7f, 191 - 127]),
        ] {
            let name = HostName::parse(name.as_bytes()).expect("a host name");
            let request = Alpn::H2.get(&name);
            let fields =
                [&[0x82, 0x84, 0x87, 0x01][..], &length, name.as_str().as_bytes()].concat();
            assert!(request.ends_with(&fields));
            let frame = request.len() - fields.len() - 9;
            assert_eq!(
                request[frame..frame + 3],
                [0, 0, u8::try_from(fields.len()).expect("short")]
            );
        }
    }
}
