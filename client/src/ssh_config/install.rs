//! Puts stanzas into a file of our own and makes ssh read it. Changes nothing else in the user's
//! configuration, not a byte.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::files;
use crate::names::ProfileName;

/// Beside ssh's own `config`, which looks for relative names there.
const OURS: &str = "postern.conf";

/// Writes the stanza of `name` in place of an older one, and returns the file it is in.
pub(super) fn install(name: &ProfileName, stanza: &str) -> Result<PathBuf, Error> {
    let dir = files::ssh_dir()?;
    let ours = dir.join(OURS);
    files::make_dir(&dir)
        .and_then(|()| change(&ours, |old| with_stanza(old, name, stanza)))
        .and_then(|()| change(&dir.join("config"), with_include))
        .map_err(|error| Error::Local(format!("cannot write in {}: {error}", dir.display())))?;
    Ok(ours)
}

/// Bytes, not text: it is the user's file, in the user's encoding.
fn change(file: &Path, edit: impl FnOnce(&[u8]) -> Vec<u8>) -> io::Result<()> {
    let old = match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        old => Some(old?),
    };
    let new = edit(old.as_deref().unwrap_or_default());
    if old.as_deref() == Some(&*new) {
        return Ok(());
    }
    files::replace(file, &new, files::mode(file).unwrap_or(files::PRIVATE))
}

/// A stanza goes from its `Host` to the next; it is replaced where it stands, or added at the end.
fn with_stanza(old: &[u8], name: &ProfileName, stanza: &str) -> Vec<u8> {
    let mut new = Vec::with_capacity(old.len() + stanza.len() + 1);
    let mut placed = false;
    let mut replacing = false;
    for line in old.split_inclusive(|byte| *byte == b'\n') {
        if begins_block(line) {
            let (_, host) = directive(line);
            replacing = host == name.as_str().as_bytes();
            if replacing && !placed {
                new.extend_from_slice(stanza.as_bytes());
                new.push(b'\n');
                placed = true;
            }
        }
        if !replacing {
            new.extend_from_slice(line);
        }
    }
    if !placed {
        if !new.is_empty() && !new.ends_with(b"\n\n") {
            new.extend_from_slice(if new.ends_with(b"\n") { b"\n" } else { b"\n\n" });
        }
        new.extend_from_slice(stanza.as_bytes());
        new.push(b'\n');
    }
    new
}

/// Within a `Host` or `Match` block an Include would hold for that block alone, so ours stands
/// before all.
fn with_include(old: &[u8]) -> Vec<u8> {
    let mut head = old.split(|byte| *byte == b'\n').take_while(|line| !begins_block(line));
    let included = head.any(|line| {
        let (keyword, arguments) = directive(line);
        keyword.eq_ignore_ascii_case(b"include")
            && arguments.split(u8::is_ascii_whitespace).any(|file| file == OURS.as_bytes())
    });
    if included {
        return old.to_vec();
    }
    [format!("Include {OURS}\n").as_bytes(), old].concat()
}

fn begins_block(line: &[u8]) -> bool {
    let (keyword, _) = directive(line);
    keyword.eq_ignore_ascii_case(b"host") || keyword.eq_ignore_ascii_case(b"match")
}

/// Keyword and arguments; ssh lets white space or one `=` stand between them.
fn directive(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.trim_ascii();
    let separator = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'=';
    let end = line.iter().position(separator).unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let rest = rest.trim_ascii();
    (keyword, rest.strip_prefix(b"=").unwrap_or(rest).trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: &str = "Host bob\n    HostKeyAlias bob\n    ProxyCommand postern connect bob\n";
    const BOB_NEW: &str = "Host bob\n    HostKeyAlias bob\n    User b\n";
    const EVE: &str = "Host eve\n    HostKeyAlias eve\n    ProxyCommand postern connect eve\n";

    fn put(old: &str, name: &str, stanza: &str) -> String {
        let name = name.parse().expect("a name");
        let new = with_stanza(old.as_bytes(), &name, stanza);
        assert_eq!(with_stanza(&new, &name, stanza), new, "not idempotent");
        String::from_utf8(new).expect("text")
    }

    #[test]
    fn stanzas_are_added_and_replaced_each_for_itself() {
        let one = put("", "bob", BOB);
        assert_eq!(one, format!("{BOB}\n"));
        let two = put(&one, "eve", EVE);
        assert_eq!(two, format!("{BOB}\n{EVE}\n"));
        assert_eq!(put(&two, "bob", BOB_NEW), format!("{BOB_NEW}\n{EVE}\n"));
    }

    #[test]
    fn what_else_stands_there_is_kept() {
        let old = "# mine\nhost=BOB\n  User x\nMatch all\n  Port 1";
        let new = put(old, "bob", BOB);
        assert_eq!(new, format!("{old}\n\n{BOB}\n"));
        assert_eq!(put("Host bobby\n", "bob", BOB), format!("Host bobby\n\n{BOB}\n"));
    }

    #[test]
    fn the_include_stands_before_all_and_once() {
        for (old, new) in [
            (&b""[..], &b"Include postern.conf\n"[..]),
            (b"Host x\n\xff\n", b"Include postern.conf\nHost x\n\xff\n"),
            (
                b"Host *\nInclude postern.conf\n",
                b"Include postern.conf\nHost *\nInclude postern.conf\n",
            ),
        ] {
            assert_eq!(with_include(old), new);
            assert_eq!(with_include(new), new, "not idempotent");
        }
        for there in ["Include postern.conf", "# a\n  include = x.conf postern.conf\nHost x\n"] {
            assert_eq!(with_include(there.as_bytes()), there.as_bytes());
        }
    }

    #[test]
    fn files_are_made_private_and_left_alone_when_right() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config");
        change(&file, with_include).expect("written");
        assert_eq!(files::mode(&file), Some(0o600));
        let before = fs::metadata(&file).expect("there").modified().expect("a time");
        change(&file, with_include).expect("nothing to do");
        assert_eq!(fs::metadata(&file).expect("there").modified().expect("a time"), before);
    }
}
