//! Any bytes as a record: no panic, and what parses means the same when it is encoded again.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use waypost_wire::{Filter, RecordRef, record};

fuzz_target!(|data: &[u8]| {
    let _ = record::verify(data);
    let _ = record::peek_topic(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Filter::new(text);
    }
    let Ok(parsed) = RecordRef::parse(data) else {
        return;
    };
    let _ = (parsed.producer(), parsed.header("a"));
    assert_eq!(parsed.headers().count(), parsed.header_count() as usize);
    let message = parsed.to_message();
    let body: Bytes = message.to_body();
    assert_eq!(body.len(), message.encoded_len());
    record::verify(&body).expect("what was encoded has its checksum");
    let again = RecordRef::parse(&body).expect("what was encoded parses");
    assert_eq!(again.to_message(), message);
    assert_eq!(again.payload(), parsed.payload());
});
