//! `http://host[:port][/path][?query]`, and nothing else.
//!
//! Written here rather than taken from the `url` crate: that one brings internationalised domain
//! names with their tables, and repairs what it is given (spaces, backslashes, missing slashes).
//! A delivery target should be taken literally or refused.

use elgate_types::ErrorCode;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

const URL_BYTES_MAX: usize = 8_000;
const HOST_BYTES_MAX: usize = 253;
const PORT_DEFAULT: u16 = 80;

/// A validated `http` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl {
    host: String,
    port: u16,
    target: String,
}

/// Why a string is not a URL that Elgate delivers to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("URL {url:?}: {problem}")]
pub struct UrlError {
    url: String,
    problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("https is not supported yet; use plain http, for example to a TLS proxy on this host")]
    Https,
    #[error("it must begin with http://")]
    Scheme,
    #[error("longer than {URL_BYTES_MAX} bytes; shorten it")]
    TooLong,
    #[error("user names and passwords in URLs are refused; put credentials into a header")]
    UserInfo,
    #[error("the host is missing; write http://host:port/path")]
    HostMissing,
    #[error("host {0:?} is neither a DNS name (a-z 0-9 . - _) nor an IP address ([...] for IPv6)")]
    Host(String),
    #[error("port {0:?} is not a number from 1 to 65535")]
    Port(String),
    #[error("a fragment (#...) is never sent; remove it")]
    Fragment,
    #[error("character {0:?} is not allowed here; percent-encode it")]
    Character(char),
    #[error("'%' must be followed by two hexadecimal digits; write %25 for a percent sign")]
    Percent,
}

impl UrlError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self.problem {
            Problem::Https => ErrorCode::Unsupported,
            _ => ErrorCode::ConfigInvalid,
        }
    }
}

impl HttpUrl {
    /// Parses `http://host[:port][/path][?query]`. The host is lower-cased; path and query are
    /// kept as they are, dot segments and percent-encodings included.
    ///
    /// # Errors
    /// [`UrlError`] quoting the URL and saying what to change.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        parse(url).map_err(|problem| UrlError { url: without_password(url), problem })
    }

    /// The host: a name, or an IP address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 80 if none was written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The origin-form request target (RFC 9112, section 3.2.1): path and query.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The Host header's value: IPv6 addresses in brackets, no port if it is 80.
    #[must_use]
    pub fn authority(&self) -> String {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        if self.port == PORT_DEFAULT {
            format!("{open}{}{close}", self.host)
        } else {
            format!("{open}{}{close}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "http://{}{}", self.authority(), self.target)
    }
}

fn parse(url: &str) -> Result<HttpUrl, Problem> {
    if url.len() > URL_BYTES_MAX {
        return Err(Problem::TooLong);
    }
    if strip_scheme(url, "https://").is_some() {
        return Err(Problem::Https);
    }
    let rest = strip_scheme(url, "http://").ok_or(Problem::Scheme)?;
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(authority_end);
    if authority.contains('@') {
        return Err(Problem::UserInfo);
    }
    let (host, port) = parse_authority(authority)?;
    check_target(target)?;
    let slash = if target.starts_with('/') { "" } else { "/" };
    Ok(HttpUrl { host, port, target: format!("{slash}{target}") })
}

fn strip_scheme<'a>(url: &'a str, scheme: &str) -> Option<&'a str> {
    let start = url.get(..scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then(|| &url[scheme.len()..])
}

fn parse_authority(authority: &str) -> Result<(String, u16), Problem> {
    let refused = |host: &str| Problem::Host(host.chars().take(80).collect());
    let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']').ok_or_else(|| refused(authority))?;
        let address: Ipv6Addr = address.parse().map_err(|_| refused(address))?;
        (address.to_string(), port)
    } else {
        let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
        if host.is_empty() {
            return Err(Problem::HostMissing);
        }
        if !is_host_name(host) {
            return Err(refused(host));
        }
        (host.to_ascii_lowercase(), port)
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => PORT_DEFAULT,
        None => return Err(refused(authority)),
        Some(digits) => Some(digits)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .filter(|&port| port != 0)
            .ok_or_else(|| Problem::Port(digits.chars().take(80).collect()))?,
    };
    Ok((host, port))
}

/// A DNS name, or an IPv4 address in its one canonical form. A name whose last label is a number
/// is read as an address by some resolvers (`127.1`, `0x7f.1`) and as a name by others: refused.
fn is_host_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let label_is_sound = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if name.len() > HOST_BYTES_MAX || !name.split('.').all(label_is_sound) {
        return false;
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    let looks_numeric = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("0x"));
    !looks_numeric || host.parse::<Ipv4Addr>().is_ok()
}

fn check_target(target: &str) -> Result<(), Problem> {
    let bytes = target.as_bytes();
    for (index, character) in target.char_indices() {
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~' => {}
            '!' | '$' | '&' | '\'' | '(' | ')' | '*' | '+' | ',' | ';' | '=' => {}
            ':' | '@' | '/' | '?' => {}
            '%' => {
                let digits = bytes.get(index + 1..index + 3).ok_or(Problem::Percent)?;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(Problem::Percent);
                }
            }
            '#' => return Err(Problem::Fragment),
            other => return Err(Problem::Character(other)),
        }
    }
    Ok(())
}

/// The URL as an error may quote it: shortened, and without what may be a password.
fn without_password(url: &str) -> String {
    let authority_start = url.find("://").map_or(0, |at| at + 3);
    let rest = &url[authority_start..];
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let shown = match rest[..authority_end].rfind('@') {
        Some(at) => format!("{}***{}", &url[..authority_start], &rest[at..]),
        None => url.to_owned(),
    };
    shown.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> (String, u16, String, String) {
        let url = HttpUrl::parse(url).unwrap_or_else(|error| panic!("{error}"));
        (url.host().into(), url.port(), url.target().into(), url.authority())
    }

    #[test]
    fn takes_urls_apart() {
        for (url, host, port, target, authority) in [
            ("http://example.test", "example.test", 80, "/", "example.test"),
            (
                "HTTP://Example.TEST:8080/In?q=1",
                "example.test",
                8080,
                "/In?q=1",
                "example.test:8080",
            ),
            ("http://h:80/a/../b", "h", 80, "/a/../b", "h"),
            ("http://h?q", "h", 80, "/?q", "h"),
            ("http://h/?", "h", 80, "/?", "h"),
            ("http://127.0.0.1:1/", "127.0.0.1", 1, "/", "127.0.0.1:1"),
            ("http://[::1]:65535/x%2Fy", "::1", 65535, "/x%2Fy", "[::1]:65535"),
            ("http://[FE80:0::1]/", "fe80::1", 80, "/", "[fe80::1]"),
            ("http://my_service.local./", "my_service.local.", 80, "/", "my_service.local."),
            ("http://h/a@b:c", "h", 80, "/a@b:c", "h"),
        ] {
            assert_eq!(parts(url), (host.into(), port, target.into(), authority.into()), "{url}");
        }
    }

    #[test]
    fn refuses_the_rest_and_says_why() {
        for (url, expected) in [
            ("https://h/", "use plain http"),
            ("ftp://h/", "must begin with http://"),
            ("h:80/", "must begin with http://"),
            ("", "must begin with http://"),
            ("http:/h", "must begin with http://"),
            (" http://h", "must begin with http://"),
            ("http://", "host is missing"),
            ("http://:80/", "host is missing"),
            ("http:///x", "host is missing"),
            ("http://u:p@h/", "credentials"),
            ("http://@h/", "credentials"),
            ("http://a b/", "host \"a b\""),
            ("http://a%20b/", "host \"a%20b\""),
            ("http://bücher.test/", "host \"bücher.test\""),
            ("http://a..b/", "host"),
            ("http://h\r\nx/", "host"),
            ("http://h\\x/", "host"),
            ("http://127.1/", "host"),
            ("http://0x7f.1/", "host"),
            ("http://1.2.3.4.5/", "host"),
            ("http://256.0.0.1/", "host"),
            ("http://010.0.0.1/", "host"),
            ("http://::1/", "host is missing"),
            ("http://[::1/", "host"),
            ("http://[::1]x/", "host"),
            ("http://[::1%eth0]/", "host"),
            ("http://[127.0.0.1]/", "host"),
            ("http://h:/", "port \"\""),
            ("http://h:0/", "port \"0\""),
            ("http://h:65536/", "port \"65536\""),
            ("http://h:+80/", "port \"+80\""),
            ("http://h:80:90/", "port \"80:90\""),
            ("http://h/#x", "fragment"),
            ("http://h#x", "fragment"),
            ("http://h/a b", "character ' '"),
            ("http://h/a\r\nb", "character '\\r'"),
            ("http://h/\0", "character '\\0'"),
            ("http://h/ü", "character 'ü'"),
            ("http://h/<", "character '<'"),
            ("http://h/%", "%25"),
            ("http://h/%2", "%25"),
            ("http://h/%zz", "%25"),
            ("http://h/%é", "%25"),
        ] {
            let error = HttpUrl::parse(url).expect_err(url).to_string();
            assert!(error.contains(expected), "{url:?}: {error}");
        }
        let long = format!("http://h/{}", "x".repeat(URL_BYTES_MAX));
        assert!(HttpUrl::parse(&long).expect_err("long").to_string().len() < 400);
        assert_eq!(HttpUrl::parse("https://h").expect_err("tls").code(), ErrorCode::Unsupported);
    }

    #[test]
    fn errors_do_not_repeat_passwords() {
        let error = HttpUrl::parse("http://user:secret@h/").expect_err("user info").to_string();
        assert!(error.contains("http://***@h/") && !error.contains("secret"), "{error}");
        let error = HttpUrl::parse("https://user:se@cret@h/").expect_err("https").to_string();
        assert!(!error.contains("cret"), "{error}");
    }
}
