//! What the encoder writes is one request that an independent parser reads back unchanged; what
//! could be read as anything else is refused. URLs survive a round trip.

use elgate_http::{HttpUrl, RequestEncoder};
use proptest::collection::vec;
use proptest::prelude::*;

/// Any text, but often with what an injection needs.
fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-zA-Z0-9-]{1,8}",
        Just("\r\n".to_owned()),
        Just("\r".to_owned()),
        Just("\n".to_owned()),
        Just(": ".to_owned()),
        Just("\0".to_owned()),
        any::<char>().prop_map(String::from),
    ];
    vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_request_is_read_back_unchanged(
        headers in vec((hostile_text(), hostile_text()), 0..4), body in vec(any::<u8>(), 0..5_000),
    ) {
        let url = HttpUrl::parse("http://h/in").expect("sound");
        let encoder = RequestEncoder::new("POST", &url).expect("sound");
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let Ok(request) = encoder.encode(&headers, &body) else { return Ok(()) };
        let mut slots = [httparse::EMPTY_HEADER; 8];
        let mut read = httparse::Request::new(&mut slots);
        let status = read.parse(&request).expect("well-formed");
        prop_assert_eq!(&request[status.unwrap()..], &body[..]);
        prop_assert_eq!((read.method, read.path), (Some("POST"), Some("/in")));
        let length = body.len().to_string();
        let expected = [("Host", "h")].into_iter().chain(headers).chain([("Content-Length", &*length)]);
        let read = read.headers.iter().map(|header| (header.name, header.value));
        prop_assert!(read.eq(expected.map(|(name, value)| (name, value.as_bytes()))));
    }

    #[test]
    fn sound_headers_are_accepted(name in "[A-Za-z][A-Za-z0-9-]{0,20}", value in "([!-~]([ -~]{0,30}[!-~])?)?") {
        let own = ["te", "host", "expect", "trailer", "upgrade", "connection"];
        prop_assume!(!own.contains(&name.to_ascii_lowercase().as_str()));
        let url = HttpUrl::parse("http://h/in").expect("sound");
        let encoder = RequestEncoder::new("POST", &url).expect("sound");
        prop_assert!(encoder.header(&name, &value).is_ok());
    }

    #[test]
    fn any_text_is_a_url_or_an_error(text in hostile_text(), tail in hostile_text()) {
        for url in [text.clone(), format!("http://{text}"), format!("http://h/{text}?{tail}")] {
            if let Ok(parsed) = HttpUrl::parse(&url) {
                prop_assert!(!parsed.target().contains(|c: char| c.is_whitespace() || c.is_control()));
                prop_assert!(!parsed.authority().contains(|c: char| c.is_whitespace() || c.is_control()));
            }
        }
    }

    #[test]
    fn a_url_survives_a_round_trip(
        host in "[a-z][a-z0-9]{0,8}(\\.[a-z][a-z0-9-]{0,8}){0,3}|(1?[0-9]{1,2}\\.){3}(1?[0-9])|\\[(::1|fe80::[1-9a-f]{1,4})\\]",
        port in proptest::option::of(1..=u16::MAX),
        target in "(/[a-zA-Z0-9._~!$&'()*+,;=:@-]{0,10}(%[0-9a-fA-F]{2})?){0,4}(\\?[a-z=&/?]{0,10})?",
    ) {
        prop_assume!(!host.split('.').any(|part| part.len() > 1 && part.starts_with('0')));
        let port_text = port.map_or(String::new(), |port| format!(":{port}"));
        let url = HttpUrl::parse(&format!("http://{host}{port_text}{target}")).expect("sound");
        prop_assert_eq!(url.port(), port.unwrap_or(80));
        prop_assert!(url.target().ends_with(&target) && url.target().starts_with('/'));
        prop_assert_eq!(HttpUrl::parse(&url.to_string()), Ok(url));
    }
}
