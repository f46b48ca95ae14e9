//! The far end of a client: a host and a port.

use elgate_http::HttpUrl;
use std::fmt;

/// Whom to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// A DNS name, or an IP address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl From<&HttpUrl> for Origin {
    fn from(url: &HttpUrl) -> Self {
        Self { host: url.host().to_owned(), port: url.port() }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}
