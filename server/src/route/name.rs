//! What a route may say of a name: a server name in TLS, or a protocol of ALPN. Pure.

use postern_shared::hello::HostName;

/// A server name in a route: `shop.example.com`, `*.example.org` (not `example.org` itself), `*` for any
/// there is, or stars within, each for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    Exact(HostName),
    Below(HostName),
    Glob(Glob),
    Any,
}

impl NamePattern {
    pub fn parse(text: &str) -> Option<NamePattern> {
        if text == "*" {
            return Some(NamePattern::Any);
        }
        let suffix = text.strip_prefix("*.").filter(|suffix| !suffix.contains('*'));
        if let Some(suffix) = suffix {
            return HostName::parse(suffix.as_bytes()).map(NamePattern::Below);
        }
        if text.contains('*') {
            // Of what is left of a name when stars are filled in, each must be able to be one.
            HostName::parse(text.replace('*', "x").as_bytes())?;
            return Some(NamePattern::Glob(Glob::new(&text.to_ascii_lowercase())));
        }
        HostName::parse(text.as_bytes()).map(NamePattern::Exact)
    }

    pub fn matches(&self, name: &HostName) -> bool {
        match self {
            NamePattern::Any => true,
            NamePattern::Exact(exact) => exact == name,
            NamePattern::Below(suffix) => is_below(name.as_str(), suffix.as_str()),
            NamePattern::Glob(glob) => glob.matches(name.as_str()),
        }
    }

    /// Whether every name that matches `other` matches this one, as far as that is easily seen.
    pub fn covers(&self, other: &NamePattern) -> bool {
        match (self, other) {
            (NamePattern::Any, _) => true,
            (_, NamePattern::Exact(name)) => self.matches(name),
            (NamePattern::Below(suffix), NamePattern::Below(deeper)) => {
                suffix == deeper || is_below(deeper.as_str(), suffix.as_str())
            }
            (NamePattern::Glob(glob), NamePattern::Glob(other)) => glob == other,
            (NamePattern::Exact(_) | NamePattern::Below(_) | NamePattern::Glob(_), _) => false,
        }
    }
}

fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// A text with stars in it, each for any run of characters, the empty one too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    first: String,
    /// What stands behind each star.
    rest: Vec<String>,
}

impl Glob {
    pub fn new(text: &str) -> Glob {
        let mut parts = text.split('*').map(str::to_owned);
        Glob { first: parts.next().unwrap_or_default(), rest: parts.collect() }
    }

    /// Each part at its first place behind the one before, the last at the end: no star needs to be
    /// tried twice.
    pub fn matches(&self, text: &str) -> bool {
        let Some(mut text) = text.strip_prefix(&*self.first) else { return false };
        let Some((last, middle)) = self.rest.split_last() else { return text.is_empty() };
        for part in middle {
            let Some((_, behind)) = text.split_once(&**part) else { return false };
            text = behind;
        }
        text.ends_with(&**last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        HostName::parse(text.as_bytes()).expect("a hostname")
    }

    fn pattern(text: &str) -> NamePattern {
        NamePattern::parse(text).expect("a pattern")
    }

    #[test]
    fn a_star_covers_what_is_below_and_not_the_name_itself() {
        let below = pattern("*.Example.org");
        for (text, matches) in [
            ("a.example.org", true),
            ("a.b.example.org", true),
            ("example.org", false),
            ("badexample.org", false),
            ("example.org.evil", false),
        ] {
            assert_eq!(below.matches(&name(text)), matches, "{text}");
        }
        assert!(pattern("*").matches(&name("x")));
    }

    #[test]
    fn stars_within() {
        for (text, of, matches) in [
            ("shop-*.example.org", "shop-1.example.org", true),
            ("shop-*.example.org", "Shop-.example.org", true),
            ("shop-*.example.org", "shop.example.org", false),
            ("*.example.*", "www.example.net", true),
            ("*.example.*", "www.examples.net", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "axbxbxc", true),
            ("a*b*c", "axcxb", false),
        ] {
            assert_eq!(pattern(text).matches(&name(of)), matches, "{text} of {of}");
        }
        for bad in ["", "*.", "a b*", "*..x", "a*\0"] {
            assert_eq!(NamePattern::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_covers_what() {
        for (wide, narrow, covers) in [
            ("*", "a.example.org", true),
            ("*.example.org", "a.example.org", true),
            ("*.example.org", "*.b.example.org", true),
            ("*.b.example.org", "*.example.org", false),
            ("*.example.org", "example.org", false),
            ("a.example.org", "*", false),
            ("a*.example.org", "ab.example.org", true),
        ] {
            assert_eq!(pattern(wide).covers(&pattern(narrow)), covers, "{wide} over {narrow}");
        }
    }
}
