//! Which entrances are offered, and what becomes of their visitors: by the command line, or else by the
//! profile. Refuses what cannot go together; opens nothing.

use std::collections::BTreeSet;

use clap::Args;
use postern_shared::expose::Entrance;
use postern_shared::expose::control::{MOST_OFFERS, Offer};
use postern_shared::proxy::Version;

use crate::error::Error;
use crate::names::ProfileName;
use crate::profile::{Exposed, Profile, Target, exposed};
use crate::reach::Reach;

/// What the command line says.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Where visitors come in on the server: 80 or tcp:80, sni:NAME, name:NAME [default: the profile's]
    #[arg(value_name = "ENTRANCE", value_parser = exposed::entrance)]
    pub entrances: Vec<Entrance>,

    /// Where they are led, for each entrance in turn: HOST:PORT, PORT of localhost, or unix:/PATH
    #[arg(long, value_name = "TARGET")]
    pub to: Vec<Target>,

    /// A profile, made by join
    #[arg(long, value_name = "NAME")]
    pub profile: ProfileName,

    #[command(flatten)]
    pub reach: Reach,

    /// Have the server end the TLS of sni: entrances, with its own certificate
    #[arg(long)]
    pub terminate: bool,

    /// Tell the local service who its visitor is by the PROXY protocol: v1 or v2
    #[arg(long, value_name = "VERSION", value_parser = version, conflicts_with = "forwarded")]
    pub proxy_protocol: Option<Version>,

    /// Tell it by X-Forwarded-For, -Proto and -Host in each HTTP request
    #[arg(long)]
    pub forwarded: bool,

    /// Exit (11) as soon as an entrance is refused or closed
    #[arg(long)]
    pub strict: bool,

    /// Ask the one that runs for this profile how it fares, by trying each entrance
    #[arg(long, conflicts_with_all = ["entrances", "to", "terminate", "proxy_protocol", "forwarded", "strict"])]
    pub status: bool,
}

/// An entrance, and what becomes of its visitors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offering {
    pub(super) entrance: Entrance,
    pub(super) to: Target,
    pub(super) terminate: bool,
    pub(super) told: Told,
}

/// How the local service is told who its visitor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    Proxy(Version),
    Forwarded,
}

impl Offering {
    pub(super) fn offer(&self, id: u16) -> Offer {
        Offer { id, entrance: self.entrance.clone(), terminate: self.terminate }
    }
}

/// What is offered, each by its number.
pub(super) fn offerings(arguments: &Arguments, profile: &Profile) -> Result<Vec<Offering>, Error> {
    let listed = listed(arguments, profile)?;
    let name = &arguments.profile;
    if listed.is_empty() {
        return Err(Error::Usage(format!(
            "nothing to expose: give an entrance and --to, or write [[expose]] into the profile {name}"
        )));
    }
    if listed.len() > usize::from(MOST_OFFERS) {
        return Err(Error::Usage(format!("more than {MOST_OFFERS} entrances")));
    }
    let is_sni = |exposed: &Exposed| matches!(exposed.entrance, Entrance::Sni(_));
    if arguments.terminate && !listed.iter().any(is_sni) {
        return Err(Error::Usage(
            "--terminate: only sni: entrances carry TLS to be ended".to_owned(),
        ));
    }
    let mut seen = BTreeSet::new();
    let mut offerings = Vec::with_capacity(listed.len());
    for exposed in listed {
        if !seen.insert(exposed.entrance.clone()) {
            return Err(Error::Usage(format!("{} is named twice", exposed.entrance)));
        }
        offerings.push(offering(exposed, arguments)?);
    }
    Ok(offerings)
}

fn listed(arguments: &Arguments, profile: &Profile) -> Result<Vec<Exposed>, Error> {
    let (entrances, to) = (&arguments.entrances, &arguments.to);
    if entrances.len() != to.len() {
        return Err(Error::Usage(format!(
            "each entrance needs its --to: there are {} and {}",
            entrances.len(),
            to.len()
        )));
    }
    if entrances.is_empty() {
        return Ok(profile.expose.clone());
    }
    let pairs = entrances.iter().zip(to);
    Ok(pairs
        .map(|(entrance, to)| Exposed {
            entrance: entrance.clone(),
            to: to.clone(),
            terminate: false,
            proxy_protocol: None,
            forwarded: false,
        })
        .collect())
}

fn offering(exposed: Exposed, arguments: &Arguments) -> Result<Offering, Error> {
    let Exposed { entrance, to, terminate, proxy_protocol, forwarded } = exposed;
    let is_sni = matches!(entrance, Entrance::Sni(_));
    let refused = |why: &str| Err(Error::Usage(format!("{entrance}: {why}")));
    if terminate && !is_sni {
        return refused("terminate: only sni: entrances carry TLS to be ended");
    }
    let terminate = terminate || arguments.terminate && is_sni;
    // What is given here replaces what stands there.
    let told = match (arguments.proxy_protocol, arguments.forwarded) {
        (Some(version), _) => Told::Proxy(version),
        (None, true) => Told::Forwarded,
        (None, false) => match (proxy_protocol, forwarded) {
            (Some(_), true) => {
                return refused("proxy-protocol and forwarded exclude each other; drop one");
            }
            (Some(version), false) => Told::Proxy(version),
            (None, true) => Told::Forwarded,
            (None, false) => Told::Nothing,
        },
    };
    if told == Told::Forwarded && is_sni && !terminate {
        return refused(
            "forwarded: what is inside TLS cannot be told in; add terminate, or use proxy-protocol",
        );
    }
    Ok(Offering { entrance, to, terminate, told })
}

fn version(text: &str) -> Result<Version, &'static str> {
    exposed::version(text).ok_or("it is neither v1 nor v2")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::profile::tests::invite;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(line: &str) -> Result<Vec<Offering>, String> {
        parse_with(line, Vec::new())
    }

    fn parse_with(line: &str, expose: Vec<Exposed>) -> Result<Vec<Offering>, String> {
        let words = ["expose", "--profile", "bob"].into_iter().chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let profile = Profile::from_invite(invite()).expect("a right invite");
        let profile = Profile { expose, ..profile };
        offerings(&line.arguments, &profile).map_err(|error| error.to_string())
    }

    fn exposed(entrance: &str) -> Exposed {
        Exposed {
            entrance: exposed::entrance(entrance).expect(entrance),
            to: "3000".parse().expect("a target"),
            terminate: false,
            proxy_protocol: None,
            forwarded: false,
        }
    }

    #[test]
    fn entrances_and_targets_pair_by_order() {
        let offerings =
            parse("80 --to localhost:3000 sni:a.example --to unix:/run/a name:b --to 5")
                .expect("three");
        let pairs: Vec<_> =
            offerings.iter().map(|one| format!("{} {}", one.entrance, one.to)).collect();
        assert_eq!(
            pairs,
            ["tcp:80 localhost:3000", "sni:a.example unix:/run/a", "name:b localhost:5"]
        );
        assert_eq!(parse("80 443 --to 1 --to 2").expect("two").len(), 2);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (line, why) in [
            ("", "nothing to expose"),
            ("80", "each entrance needs its --to"),
            ("--to 80", "each entrance needs its --to"),
            ("80 --to 1 tcp:80 --to 2", "named twice"),
            ("80 --to 1 --terminate", "only sni:"),
            ("sni:a.example --to 1 --forwarded", "add terminate"),
            ("80 --to 1 --forwarded --proxy-protocol v2", "cannot be used with"),
            ("80 --to 1 --proxy-protocol v3", "neither v1 nor v2"),
            ("80 --to 1 --status", "cannot be used with"),
            ("http --to 1", "write tcp:80"),
            ("80 --to here", "port"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(why), "{line}: {error}");
        }
    }

    #[test]
    fn the_profile_speaks_where_the_command_line_does_not() {
        let sni = Exposed { terminate: true, forwarded: true, ..exposed("sni:a.example") };
        let tcp = Exposed { proxy_protocol: Some(Version::V1), ..exposed("80") };
        let both = parse_with("", vec![sni.clone(), tcp.clone()]).expect("two");
        let told: Vec<_> = both.iter().map(|one| (one.terminate, one.told)).collect();
        assert_eq!(told, [(true, Told::Forwarded), (false, Told::Proxy(Version::V1))]);
        let both = parse_with("--proxy-protocol v2", vec![sni, tcp.clone()]).expect("two");
        assert!(both.iter().all(|one| one.told == Told::Proxy(Version::V2)));
        for (wrong, why) in [
            (Exposed { terminate: true, ..exposed("80") }, "tcp:80: terminate"),
            (Exposed { forwarded: true, ..exposed("sni:a.example") }, "sni:a.example: forwarded"),
            (Exposed { forwarded: true, ..tcp }, "exclude each other"),
        ] {
            let error = parse_with("", vec![wrong]).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
    }
}
