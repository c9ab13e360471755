//! ClientHellos made by hand, so that each of their fields can be bent.

/// What is random in a real hello is the same in each of ours, so that a failure can be repeated.
const RANDOM: [u8; 32] = [0x5a; 32];
/// Nearly any 32 bytes are a public key on this curve (RFC 7748).
const X25519_KEY: [u8; 32] = [0x42; 32];

pub(crate) const TLS13_SUITES: [u16; 3] = [0x1301, 0x1302, 0x1303];
pub(crate) const TLS12_SUITES: [u16; 8] =
    [0xc02f, 0xc030, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d, 0x002f];

pub(crate) const SERVER_NAME: u16 = 0;
pub(crate) const GROUPS: u16 = 10;
pub(crate) const ALPN: u16 = 16;
pub(crate) const PADDING: u16 = 21;
pub(crate) const EARLY_DATA: u16 = 42;
pub(crate) const SUPPORTED_VERSIONS: u16 = 43;
pub(crate) const KEY_SHARE: u16 = 51;
const SIGNATURE_ALGORITHMS: u16 = 13;

#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) record_version: u16,
    pub(crate) version: u16,
    pub(crate) session_id: Vec<u8>,
    pub(crate) suites: Vec<u16>,
    pub(crate) compression: Vec<u8>,
    pub(crate) extensions: Vec<(u16, Vec<u8>)>,
}

impl Hello {
    /// As a browser sends it: TLS 1.3, or 1.2.
    pub(crate) fn modern() -> Hello {
        Hello {
            record_version: 0x0301,
            version: 0x0303,
            session_id: (0..32).collect(),
            suites: [&TLS13_SUITES[..], &TLS12_SUITES].concat(),
            compression: vec![0],
            extensions: vec![
                (SERVER_NAME, server_name(b"www.example.com")),
                (GROUPS, vec16(&[0, 0x1d, 0, 0x17, 0, 0x18])),
                (11, vec8(&[0])),
                (SIGNATURE_ALGORITHMS, vec16(&[4, 3, 8, 4, 4, 1, 8, 5, 5, 1])),
                (ALPN, alpn(&["h2", "http/1.1"])),
                (SUPPORTED_VERSIONS, vec8(&[3, 4, 3, 3])),
                (45, vec8(&[1])),
                (KEY_SHARE, vec16(&key_share(0x1d, &X25519_KEY))),
            ],
        }
    }

    /// As it was before TLS 1.3.
    pub(crate) fn tls12() -> Hello {
        let mut hello = Hello::modern().without(SUPPORTED_VERSIONS).without(KEY_SHARE);
        hello.session_id.clear();
        hello.suites = TLS12_SUITES.to_vec();
        hello
    }

    /// With this extension in the place of the one of its kind, or behind the others.
    pub(crate) fn with(mut self, kind: u16, data: impl Into<Vec<u8>>) -> Hello {
        match self.extensions.iter_mut().find(|(other, _)| *other == kind) {
            Some(found) => found.1 = data.into(),
            None => self.extensions.push((kind, data.into())),
        }
        self
    }

    pub(crate) fn without(mut self, kind: u16) -> Hello {
        self.extensions.retain(|(other, _)| *other != kind);
        self
    }

    pub(crate) fn bent(mut self, bend: impl FnOnce(&mut Hello)) -> Hello {
        bend(&mut self);
        self
    }

    /// The handshake message.
    pub(crate) fn message(&self) -> Vec<u8> {
        let suites: Vec<u8> = self.suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
        let mut extensions = Vec::new();
        for (kind, data) in &self.extensions {
            extensions.extend([&kind.to_be_bytes()[..], &vec16(data)].concat());
        }
        let body = [
            &self.version.to_be_bytes()[..],
            &RANDOM,
            &vec8(&self.session_id),
            &vec16(&suites),
            &vec8(&self.compression),
            &vec16(&extensions),
        ]
        .concat();
        message(1, &body)
    }

    /// In one record.
    pub(crate) fn record(&self) -> Vec<u8> {
        record(22, self.record_version, &self.message())
    }

    /// In records of so many bytes.
    pub(crate) fn records(&self, size: usize) -> Vec<u8> {
        let message = self.message();
        message.chunks(size).flat_map(|part| record(22, self.record_version, part)).collect()
    }
}

pub(crate) fn record(kind: u8, version: u16, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &version.to_be_bytes(), &vec16(body)].concat()
}

pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&[kind], &length[1..], body].concat()
}

pub(crate) fn server_name(name: &[u8]) -> Vec<u8> {
    vec16(&[&[0], &vec16(name)[..]].concat())
}

pub(crate) fn alpn(names: &[&str]) -> Vec<u8> {
    vec16(&names.iter().flat_map(|name| vec8(name.as_bytes())).collect::<Vec<_>>())
}

pub(crate) fn key_share(group: u16, key: &[u8]) -> Vec<u8> {
    [&group.to_be_bytes()[..], &vec16(key)].concat()
}

pub(crate) fn vec8(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).expect("short")][..], bytes].concat()
}

pub(crate) fn vec16(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("short");
    [&length.to_be_bytes()[..], bytes].concat()
}
