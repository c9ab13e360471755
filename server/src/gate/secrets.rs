//! Static secrets: words by which stock tools such as nc arm their address. Pure: reads the text of their
//! file and finds the one that was said. Whoever saw one said can say it again; the README says so.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::hmac;
use postern_shared::hello::HostName;
use serde::Deserialize;
use subtle::{Choice, ConstantTimeEq};
use toml::Spanned;
use zeroize::Zeroizing;

use super::terms::{Terms, Written, is_name};
use crate::complaint::Complaint;
use crate::sys::random;

/// Short ones could be guessed, and the words of HTTP be said by accident.
const SHORTEST: usize = 8;

/// A label of a host name has no more.
const LONGEST: usize = 63;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    #[serde(default)]
    secret: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Entry {
    name: String,
    service: String,
    line: Option<Zeroizing<String>>,
    path: Option<Zeroizing<String>>,
    sni: Option<Zeroizing<String>>,
    from: Option<Vec<String>>,
    until: Option<String>,
    hours: Option<Vec<String>>,
    time_zone: Option<String>,
    max_tunnels: Option<usize>,
}

/// Where a secret is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// As the whole first line.
    Line,
    /// As the path of an HTTP request in clear.
    Path,
    /// As the name in a TLS hello.
    Sni,
}

/// Where in a connection's first bytes a word is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub place: Place,
    pub at: Range<usize>,
}

impl Said {
    /// The words of first bytes that are no TLS: a first line without the blanks around it, which may end
    /// with what came, and the path of a request.
    pub fn in_clear(bytes: &[u8]) -> impl Iterator<Item = Said> {
        let line = bytes.split(|byte| b"\r\n".contains(byte)).next().unwrap_or_default();
        let blank = line.len() - line.trim_ascii_start().len();
        let line = blank..blank + line.trim_ascii().len();
        let start = bytes.iter().position(|byte| *byte == b' ').map(|space| space + 1);
        let path = start.and_then(|start| {
            let rest = bytes.get(start..).filter(|rest| rest.starts_with(b"/"))?;
            let length = rest.iter().position(|byte| !is_in_path(*byte))?;
            Some(start..start + length)
        });
        let said = |place| move |at| Said { place, at };
        std::iter::once(said(Place::Line)(line)).chain(path.map(said(Place::Path)))
    }

    pub fn word<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.at.clone()).unwrap_or_default()
    }

    /// The first bytes up to the word's end, with another of its length and class in its place: what a
    /// website may get to see, and will answer as it would have answered the word.
    pub fn decoy(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.get(..self.at.end).unwrap_or_default().to_vec();
        for byte in bytes.iter_mut().skip(self.at.start) {
            *byte = match *byte {
                b'A'..=b'Z' => b'X',
                b'a'..=b'z' => b'x',
                b'0'..=b'9' => b'0',
                other => other,
            };
        }
        bytes
    }
}

/// One secret, and what it opens.
pub struct Secret {
    pub name: String,
    pub service: String,
    pub terms: Terms,
    place: Place,
    word: Zeroizing<String>,
    digest: hmac::Tag,
}

/// Without the word.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All secrets of a file.
pub struct Secrets {
    all: Vec<Arc<Secret>>,
    key: hmac::Key,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.all).finish()
    }
}

impl Secrets {
    /// Reads the file's text.
    pub fn parse(path: &Path, text: &str) -> Result<Secrets, Complaint> {
        let file: File =
            toml::from_str(text).map_err(|error| Complaint::secret_toml(path, text, &error))?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &random::<32>());
        let mut all: Vec<Arc<Secret>> = Vec::with_capacity(file.secret.len());
        for entry in file.secret {
            let span = entry.span();
            let entry = entry.into_inner();
            let name = entry.name.clone();
            let complain = |what: String| {
                Complaint::at(path, text, span.clone(), format!("secret {name:?}: {what}"))
            };
            let secret = read(entry, &key).map_err(complain)?;
            if all.iter().any(|other| other.name == secret.name) {
                return Err(complain("a second one of that name".to_owned()));
            }
            if all.iter().any(|other| (other.place, &*other.word) == (secret.place, &*secret.word))
            {
                return Err(complain("another has the same word".to_owned()));
            }
            all.push(Arc::new(secret));
        }
        Ok(Secrets { all, key })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Secret>> {
        self.all.iter()
    }

    pub fn are_said_in(&self, place: Place) -> bool {
        self.all.iter().any(|secret| secret.place == place)
    }

    /// The secret that is said here. What is compared is a keyed hash, of all of them: how long it takes
    /// says nothing of any.
    pub fn find(&self, place: Place, said: &[u8]) -> Option<&Arc<Secret>> {
        let digest = hmac::sign(&self.key, said);
        let mut found = None;
        for secret in &self.all {
            let here = Choice::from(u8::from(secret.place == place));
            if bool::from(secret.digest.as_ref().ct_eq(digest.as_ref()) & here) {
                found = Some(secret);
            }
        }
        found
    }

    /// Whether this secret is still one of these.
    pub fn still_have(&self, secret: &Secret) -> bool {
        self.current(secret).is_some()
    }

    /// What these say of this secret.
    pub fn current(&self, secret: &Secret) -> Option<Arc<Secret>> {
        let same = |other: &&Arc<Secret>| {
            (&other.name, &other.service, &*other.word)
                == (&secret.name, &secret.service, &*secret.word)
        };
        self.all.iter().find(same).cloned()
    }
}

/// An entry that can hold. The error never quotes the secret.
fn read(entry: Entry, key: &hmac::Key) -> Result<Secret, String> {
    if !is_name(&entry.name) {
        return Err("its name is to be made of letters, digits and - _ . @".to_owned());
    }
    let said = [
        entry.line.map(|word| (Place::Line, word)),
        entry.path.map(|word| (Place::Path, word)),
        entry.sni.map(|word| (Place::Sni, word)),
    ];
    let mut said = said.into_iter().flatten();
    let (Some((place, word)), None) = (said.next(), said.next()) else {
        return Err("say one of line, path and sni: where the secret is said".to_owned());
    };
    if !(SHORTEST..=LONGEST).contains(&word.len()) {
        return Err(format!("the secret must have {SHORTEST} to {LONGEST} characters"));
    }
    match place {
        Place::Line if !word.bytes().all(is_in_line) => {
            return Err(
                "line is made of visible ASCII; of A-Z, _ and - alone it may come in pieces"
                    .to_owned(),
            );
        }
        Place::Path if !(word.starts_with('/') && word.bytes().all(is_in_path)) => {
            return Err(
                "path begins with / and is made of letters, digits and / . _ ~ -".to_owned()
            );
        }
        Place::Sni
            if HostName::parse(word.as_bytes()).is_none_or(|name| name.as_str() != &**word) =>
        {
            return Err("sni must be a host name in lower case".to_owned());
        }
        Place::Line | Place::Path | Place::Sni => {}
    }
    let terms = Terms::read(&Written {
        from: entry.from,
        until: entry.until,
        hours: entry.hours,
        time_zone: entry.time_zone,
        max_tunnels: entry.max_tunnels,
        ..Written::default()
    })?;
    Ok(Secret {
        name: entry.name,
        service: entry.service,
        terms,
        place,
        digest: hmac::sign(key, word.as_bytes()),
        word,
    })
}

fn is_in_line(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

fn is_in_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._~-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Secrets, String> {
        Secrets::parse(Path::new("secrets.toml"), text).map_err(|complaint| complaint.to_string())
    }

    fn secret(name: &str, said: &str) -> String {
        format!("[[secret]]\nname = \"{name}\"\nservice = \"ssh\"\n{said}\n")
    }

    #[test]
    fn each_is_found_where_it_is_said() {
        let text = [
            secret("a", "line = \"OPEN_SESAME\""),
            secret("b", "path = \"/open/sesame\""),
            secret("c", "sni = \"open.sesame.example\""),
        ];
        let secrets = parse(&text.concat()).expect("sound");
        let find =
            |place, said: &[u8]| secrets.find(place, said).map(|secret| secret.name.as_str());
        assert_eq!(find(Place::Line, b"OPEN_SESAME"), Some("a"));
        assert_eq!(find(Place::Path, b"/open/sesame"), Some("b"));
        assert_eq!(find(Place::Sni, b"open.sesame.example"), Some("c"));
        assert_eq!(find(Place::Path, b"OPEN_SESAME"), None);
        assert_eq!(find(Place::Line, b"OPEN_SESAM"), None);
        assert!(!format!("{secrets:?}").contains("SESAME"));
    }

    #[test]
    fn words_are_said_in_lines_and_paths() {
        let said = |bytes: &[u8]| {
            let words = Said::in_clear(bytes).map(|said| {
                let decoy = String::from_utf8_lossy(&said.decoy(bytes)).into_owned();
                (said.place, String::from_utf8_lossy(said.word(bytes)).into_owned(), decoy)
            });
            words.collect::<Vec<_>>()
        };
        let line = |word: &str, decoy: &str| (Place::Line, word.to_owned(), decoy.to_owned());
        let path = |word: &str, decoy: &str| (Place::Path, word.to_owned(), decoy.to_owned());
        assert_eq!(said(b"OPEN_Sesame1\nrest"), [line("OPEN_Sesame1", "XXXX_Xxxxxx0")]);
        assert_eq!(said(b"OPEN_SESAME\r"), [line("OPEN_SESAME", "XXXX_XXXXXX")]);
        assert_eq!(said(b" OPEN_SESAME \n"), [line("OPEN_SESAME", " XXXX_XXXXXX")]);
        assert_eq!(said(b"OPEN_SESAME"), [line("OPEN_SESAME", "XXXX_XXXXXX")]);
        assert_eq!(said(b""), [line("", "")]);
        assert_eq!(
            said(b"GET /a/b1 "),
            [line("GET /a/b1", "XXX /x/x0"), path("/a/b1", "GET /x/x0")]
        );
        assert_eq!(said(b"GET /a/b1"), [line("GET /a/b1", "XXX /x/x0")], "more of it may come");
        assert_eq!(
            said(b"GET /a?b HTTP/1.1\r\n"),
            [line("GET /a?b HTTP/1.1", "XXX /x?x XXXX/0.0"), path("/a", "GET /x")]
        );
    }

    #[test]
    fn a_changed_one_is_another() {
        let (old, new) =
            (secret("a", "line = \"OPEN_SESAME\""), secret("a", "line = \"OPEN_SIMSIM\""));
        let (old, new) = (parse(&old).expect("sound"), parse(&new).expect("sound"));
        let first = old.iter().next().expect("one");
        assert!(old.still_have(first) && !new.still_have(first));
    }

    #[test]
    fn complaints_never_show_a_secret() {
        for (text, what) in [
            (secret("a", ""), "say one of line, path and sni"),
            (secret("my phone", "line = \"OPEN_SESAME\""), "letters, digits"),
            (secret("a\\n1 allow", "line = \"OPEN_SESAME\""), "letters, digits"),
            (secret("-", "line = \"OPEN_SESAME\""), "letters, digits"),
            (secret("a", "line = \"OPEN_SESAME\"\npath = \"/open/sesame\""), "say one of"),
            (secret("a", "line = \"SESAME\""), "must have 8 to 63 characters"),
            (secret("a", "line = \"OPEN SESAME\""), "visible ASCII"),
            (secret("a", "path = \"/open sesame\""), "path begins with /"),
            (secret("a", "path = \"open/sesame\""), "path begins with /"),
            (secret("a", "sni = \"Open.Sesame\""), "a host name in lower case"),
            (secret("a", "line = 123456789"), "not what stands here"),
            (secret("a", "line = \"OPEN_SESAME\"\nuntil = \"soon\""), "not a time"),
            (
                [secret("a", "line = \"OPEN_SESAME\""), secret("a", "line = \"OPEN_SIMSIM\"")]
                    .concat(),
                "a second one",
            ),
        ] {
            let complaint = parse(&text).expect_err(what);
            assert!(complaint.contains(what), "{complaint}");
            assert!(!complaint.to_lowercase().contains("sesame"), "{complaint}");
        }
    }
}
