//! A TLS client that can be told how to cut its first flight, and whose session can bind a knock.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS12;
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

use crate::net::{End, Seen, read_all, without_date};

/// How the ClientHello travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    Whole,
    TwoSegments,
    TwoRecords,
    ByteByByte,
}

/// A TLS session whose handshake is over.
#[derive(Debug)]
pub struct TlsClient {
    connection: ClientConnection,
    stream: TcpStream,
}

impl TlsClient {
    /// Trusts the certificates in the file `trusted`; the name is shown as SNI.
    pub fn connect(stream: TcpStream, name: &str, trusted: &Path) -> TlsClient {
        TlsClient::paced(stream, name, trusted, Pace::Whole)
    }

    pub fn paced(stream: TcpStream, name: &str, trusted: &Path, pace: Pace) -> TlsClient {
        let roots = roots(trusted);
        TlsClient::shake_hands(client(name, roots, true), stream, pace)
    }

    /// The same in TLS 1.2.
    pub fn by_tls12(stream: TcpStream, name: &str, trusted: &Path) -> TlsClient {
        let config = ClientConfig::builder_with_protocol_versions(&[&TLS12])
            .with_root_certificates(roots(trusted))
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a host name");
        let connection = ClientConnection::new(Arc::new(config), name).expect("a TLS client");
        TlsClient::shake_hands(connection, stream, Pace::Whole)
    }

    fn shake_hands(
        mut connection: ClientConnection,
        mut stream: TcpStream,
        pace: Pace,
    ) -> TlsClient {
        send(&mut stream, &first_flight(&mut connection), pace);
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).expect("TLS handshake");
        }
        TlsClient { connection, stream }
    }

    /// What binds a knock to this session.
    pub fn exporter(&self) -> [u8; 32] {
        self.connection
            .export_keying_material([0; 32], b"EXPORTER-postern-v1", None)
            .expect("the handshake is over")
    }

    /// Sends bytes inside and reads all that comes back, with a web server's clock masked.
    pub fn exchange(&mut self, bytes: &[u8]) -> Seen {
        self.write_all(bytes).expect("write into TLS");
        let seen = read_all(self);
        Seen { bytes: without_date(&seen.bytes), end: seen.end }
    }

    /// Asks for a page, in words after which the website closes.
    pub fn get(&mut self, path: &str) -> String {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n");
        let seen = self.exchange(request.as_bytes());
        assert_eq!(seen.end, End::Fin);
        String::from_utf8_lossy(&seen.bytes).into_owned()
    }
}

impl Read for TlsClient {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Stream::new(&mut self.connection, &mut self.stream).read(buffer)
    }
}

impl Write for TlsClient {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Stream::new(&mut self.connection, &mut self.stream).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Stream::new(&mut self.connection, &mut self.stream).flush()
    }
}

/// A whole ClientHello record, with or without SNI.
pub fn hello(name: Option<&str>) -> Vec<u8> {
    let shown = name.unwrap_or("www.example.com");
    first_flight(&mut client(shown, RootCertStore::empty(), name.is_some()))
}

/// Sends a ClientHello record.
pub fn send(stream: &mut TcpStream, hello: &[u8], pace: Pace) {
    let middle = hello.len() / 2;
    let pieces: Vec<Vec<u8>> = match pace {
        Pace::Whole => vec![hello.to_vec()],
        Pace::TwoSegments => vec![hello[..middle].to_vec(), hello[middle..].to_vec()],
        Pace::TwoRecords => vec![in_two_records(hello)],
        Pace::ByteByByte => hello.iter().map(|byte| vec![*byte]).collect(),
    };
    for piece in pieces {
        stream.write_all(&piece).expect("send a ClientHello");
        // A pause after each piece makes it a segment of its own.
        thread::sleep(Duration::from_millis(2));
    }
}

/// The same handshake message over two TLS records, cut within its SNI or close to it.
fn in_two_records(hello: &[u8]) -> Vec<u8> {
    let (header, message) = hello.split_at(5);
    let mut records = Vec::new();
    for part in [&message[..60], &message[60..]] {
        let length = u16::try_from(part.len()).expect("a record is short");
        records.extend_from_slice(&header[..3]);
        records.extend_from_slice(&length.to_be_bytes());
        records.extend_from_slice(part);
    }
    records
}

fn roots(trusted: &Path) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(trusted).expect("open certificates") {
        roots.add(certificate.expect("read a certificate")).expect("trust a certificate");
    }
    roots
}

fn client(name: &str, roots: RootCertStore, sni: bool) -> ClientConnection {
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.enable_sni = sni;
    let name = ServerName::try_from(name.to_owned()).expect("a host name");
    ClientConnection::new(Arc::new(config), name).expect("a TLS client")
}

fn first_flight(connection: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("write into memory");
    bytes
}
