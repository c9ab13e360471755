//! What an inventory of TLS by somebody else's eyes finds: testssl.sh, of the website directly and
//! through posternd.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use postern_tests::finish;

/// Findings by their names: protocols, ciphers in their order, key shares, extensions, the certificate,
/// the headers.
pub(super) fn findings(of: SocketAddr, csv: &Path) -> BTreeMap<String, String> {
    let mut command = Command::new("testssl");
    command.args(["--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none"]);
    command.args(["-p", "-P", "-f", "-S", "-h", "--csvfile"]).arg(csv).arg(of.to_string());
    // Its exit status counts what it thinks of the website, and what it had no time for.
    finish(&mut command);
    let rows = fs::read_to_string(csv).expect("testssl writes its findings");
    let row = |line: &str| {
        let columns: Vec<&str> = line.trim_matches('"').split("\",\"").collect();
        let [id, _address, _port, _severity, finding, ..] = columns[..] else {
            panic!("a row of testssl: {line}");
        };
        (id.to_owned(), finding.to_owned())
    };
    // Clocks run on between the two, and nginx' tickets are good only with luck here: testssl resumes
    // with a timeout of its own.
    let steady =
        |id: &str| !["scanTime", "clock", "resumption"].iter().any(|word| id.contains(word));
    rows.lines().skip(1).map(row).filter(|(id, _)| steady(id)).collect()
}
