//! Replays the corpus: responses that real and hostile servers send, each as one file of raw bytes
//! in `corpus/`, with what must come of it in `corpus/expected.txt`:
//!
//! ```text
//! <file>: ok <status> <keep|close> <body bytes>
//! <file>: <variant of HttpError>
//! ```
//!
//! Each file is parsed whole, byte by byte, and cut in two at every place.

use elgate_http::{HttpError, Progress, ResponseLimits, ResponseParser};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// Pushes the pieces, then the end of the stream unless the response is complete, and spells the
/// outcome as `expected.txt` does.
fn outcome<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut parser = ResponseParser::new(ResponseLimits::default(), false);
    let mut progress = Ok(Progress::Incomplete);
    for piece in pieces {
        progress = parser.push(piece);
    }
    if progress == Ok(Progress::Incomplete) {
        progress = parser.end_of_stream();
    }
    match progress {
        Ok(_) => {
            let response = parser.into_response().expect("complete");
            let connection = if response.keep_alive { "keep" } else { "close" };
            format!("ok {} {connection} {}", response.status, response.body_bytes)
        }
        Err(error) => variant(error),
    }
}

fn variant(error: HttpError) -> String {
    let text = format!("{error:?}");
    text.split(['(', ' ']).next().unwrap_or_default().to_owned()
}

#[test]
fn every_file_gives_what_is_expected_however_it_is_split() {
    let table = fs::read_to_string(corpus().join("expected.txt")).expect("readable");
    let mut expected: BTreeMap<_, _> =
        table.lines().map(|line| line.split_once(": ").expect("name: outcome")).collect();
    let mut replayed = 0;
    for entry in fs::read_dir(corpus()).expect("readable") {
        let path = entry.expect("readable").path();
        if path.extension().is_none_or(|extension| extension != "http") {
            continue;
        }
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
        let bytes = fs::read(&path).expect("readable");
        let expected = expected.remove(name).unwrap_or_else(|| panic!("{name} has no expectation"));
        assert_eq!(outcome([&bytes[..]]), expected, "{name}, whole");
        assert_eq!(outcome(bytes.chunks(1)), expected, "{name}, byte by byte");
        for cut in 0..bytes.len() {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(outcome([first, second]), expected, "{name}, cut at {cut}");
        }
        replayed += 1;
    }
    assert!(expected.is_empty(), "expected, but there is no such file: {:?}", expected.keys());
    assert!(replayed > 80, "only {replayed} files");
}
