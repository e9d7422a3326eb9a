use super::*;
use proptest::prelude::*;

fn full() -> Message {
    Message {
        namespace: Some("plant-7".into()),
        key: Some(Bytes::from_static(b"k")),
        content_type: Some("application/json".into()),
        content_encoding: Some("gzip".into()),
        schema_id: Some("s1".into()),
        priority: Some(3),
        not_before_ms: Some(70),
        time_to_live_ms: Some(60_000),
        message_id: Some(Bytes::from_static(b"id-1")),
        correlation: Some(Bytes::from_static(b"c")),
        reply_to: Some("answers/1".into()),
        traceparent: Some("00-x".into()),
        producer: Some(Producer {
            id: [7; 16],
            epoch: 2,
            sequence: 300,
        }),
        headers: vec![
            ("a".into(), Bytes::from_static(b"1")),
            ("a".into(), Bytes::new()),
        ],
        unknown: vec![
            (25 << 1, Bytes::from_static(b"later")),
            (40 << 1, Bytes::from_static(b"z")),
        ],
        ..Message::new("a/b", Bytes::from_static(b"hello"))
    }
}

/// A producer is put into encoded bytes as it would have been encoded, whatever else there is.
#[test]
fn a_producer_is_put_in_its_place() {
    let producer = Producer {
        id: [9; 16],
        epoch: 70,
        sequence: 1 << 40,
    };
    let short = Message::new("a/b", Bytes::new());
    let mut plain = full();
    plain.producer = None;
    for message in [full(), plain, short, Message::new("a", vec![1; 20_000])] {
        let mut slab = SlabBuilder::new();
        push_stamped(&mut slab, &message.to_body(), producer);
        let expected = Message {
            producer: Some(producer),
            ..message
        };
        let slab = slab.finish();
        let bodies: Vec<&[u8]> = slab.iter().collect();
        assert_eq!(bodies, [&expected.to_body()[..]]);
    }
}

/// Golden bytes: they stand in docs/protocol.md too and must never change for version 1.
#[test]
fn golden() {
    let body = Message::new("a/b", Bytes::from_static(b"hello")).to_body();
    assert_eq!(hex(&body), "01192c25f40303612f623c0568656c6c6f");
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn round_trip_of_everything() {
    let message = full();
    let body = message.to_body();
    assert_eq!(body.len(), message.encoded_len());
    verify(&body).unwrap();
    let record = RecordRef::parse(&body).unwrap();
    assert_eq!(record.to_message(), message);
    assert_eq!(record.to_message().to_body(), body);
    assert_eq!(record.header("a"), Some(&b"1"[..]));
    assert_eq!(record.header_count(), 2);
    assert_eq!(record.producer().unwrap().sequence, 300);
    assert_eq!(peek_topic(&body), Some(&b"a/b"[..]));
}

#[test]
fn refusals() {
    let with = |fields: &[u8]| {
        let mut body = vec![1, 0, 0, 0, 0];
        body.extend_from_slice(fields);
        RecordRef::parse(&body).map(|_| ()).unwrap_err()
    };
    assert_eq!(with(&[]), RecordError::NoTopic);
    assert_eq!(with(&[3, 9, b'a']), RecordError::CutOff(5));
    assert_eq!(
        with(&[3, 1, b'a', 3, 1, b'a']),
        RecordError::Order { id: 1, at: 8 }
    );
    assert_eq!(
        with(&[3, 1, b'a', 0x40, 0x65, 0]),
        RecordError::UnknownCritical(50)
    );
    assert!(matches!(with(&[3, 1, b'+']), RecordError::Topic { .. }));
    assert!(matches!(
        with(&[3, 1, b'a', 14, 1, 9]),
        RecordError::Field {
            field: "priority",
            ..
        }
    ));
    assert_eq!(
        RecordRef::parse(&[2, 0, 0, 0, 0]).map(|_| ()),
        Err(RecordError::Version(2))
    );
    assert_eq!(
        RecordRef::parse(&[1]).map(|_| ()),
        Err(RecordError::Short(1))
    );
}

#[test]
fn every_flipped_bit_of_the_fields_is_seen() {
    let body = full().to_body();
    for bit in 0..body.len() * 8 {
        let mut damaged = body.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(&damaged).is_err(), "bit {bit}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = RecordRef::parse(&bytes);
        let mut body = vec![1, 0, 0, 0, 0];
        body.extend_from_slice(&bytes);
        if let Ok(record) = RecordRef::parse(&body) {
            record.headers().count();
            record.to_message();
        }
    }

    #[test]
    fn parsed_then_encoded_is_the_same(
        topic in "[a-z]{1,8}(/[a-z]{1,8}){0,3}",
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        headers in proptest::collection::vec(("[a-z]{1,5}", proptest::collection::vec(any::<u8>(), 0..9)), 0..5),
    ) {
        let mut message = Message::new(topic, payload);
        message.headers = headers.into_iter().map(|(n, v)| (n, v.into())).collect();
        let body = message.to_body();
        prop_assert_eq!(RecordRef::parse(&body).unwrap().to_message(), message);
    }

    #[test]
    fn cut_bodies_never_panic(cut in 0usize..200) {
        let body = full().to_body();
        let cut = cut.min(body.len());
        let _ = RecordRef::parse(&body[..cut]);
    }
}

#[test]
fn a_message_without_its_payload_has_a_limit_of_its_own() {
    let sized = |fields: usize, payload: usize| {
        let message = Message::new("a", vec![0; payload]).with_header("h", vec![1; fields]);
        let body = message.to_body();
        RecordRef::parse(&body).unwrap().check_size(1000)
    };
    // Prefix, topic, and what stands before header and payload.
    let overhead = Message::new("a", vec![0; 1000]).with_header("h", vec![1; 60_000]);
    let overhead = overhead.encoded_len() - 61_000;
    assert_eq!(sized(FIELDS_BYTES_MAX - overhead, 1000), Ok(()));
    let length = FIELDS_BYTES_MAX + 1;
    let error = sized(length - overhead, 1000).unwrap_err();
    assert_eq!(error, RecordError::FieldsTooLarge { length });
    assert_eq!(error.code(), Code::TooLarge);
    let (length, limit) = (1001, 1000);
    let error = RecordError::PayloadTooLarge { length, limit };
    assert_eq!(sized(length, length), Err(error));
}
