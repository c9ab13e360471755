//! Lists the profiles. Shows what `connect` will do with them, and nothing secret.

use crate::error::Error;
use crate::names::ProfileName;
use crate::out;
use crate::profile::{Profile, Store};

pub fn profiles() -> Result<(), Error> {
    let store = Store::open()?;
    let names = store.names()?;
    if names.is_empty() {
        return Err(Error::Local(
            "no profiles yet; make one with: postern join < invite".to_owned(),
        ));
    }
    let mut rows = vec![["NAME", "ADDRESS", "CARRIERS", "SERVICES"].map(str::to_owned)];
    let mut broken = Vec::new();
    for name in names {
        match store.load(&name) {
            Ok(profile) => rows.push(row(&name, &profile)),
            Err(error) => broken.push(error.to_string()),
        }
    }
    out::out(&table(&rows))?;
    if broken.is_empty() { Ok(()) } else { Err(Error::Local(broken.join("\n"))) }
}

fn row(name: &ProfileName, profile: &Profile) -> [String; 4] {
    let carriers: Vec<&str> = profile.carriers.iter().map(|carrier| carrier.name()).collect();
    // The default first, as with the carriers.
    let others = profile.services.keys().filter(|service| **service != profile.service);
    let services: Vec<&str> =
        std::iter::once(&profile.service).chain(others).map(String::as_str).collect();
    [name.to_string(), profile.address().to_string(), carriers.join(","), services.join(",")]
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::invite;

    #[test]
    fn a_row_shows_the_defaults_first() {
        let name = "bob".parse().expect("a name");
        let profile = Profile::from_invite(invite()).expect("a right invite");
        assert_eq!(row(&name, &profile), ["bob", "bob.example.org:443", "tls,plain", "ssh,git"]);
    }

    #[test]
    fn columns_align() {
        let rows = [["a", "bb", "c"], ["aaa", "b", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), "a    bb  c\naaa  b\n");
    }
}
