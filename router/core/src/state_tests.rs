use super::*;
use proptest::prelude::*;

fn set(table: &mut Table, key: &str, value: &str) {
    let mut pending = Pending::default();
    let value = Bytes::copy_from_slice(value.as_bytes());
    view(table, &mut pending, 0)
        .set(key.as_bytes(), Some(value), 0)
        .unwrap();
    table.apply(pending.take());
}

fn view<'a>(table: &'a Table, pending: &'a mut Pending, now: u64) -> View<'a> {
    View {
        table,
        pending,
        now,
    }
}

fn keys(found: &[(Bytes, Bytes)]) -> Vec<&str> {
    found
        .iter()
        .map(|(key, _)| std::str::from_utf8(key).unwrap())
        .collect()
}

#[test]
fn what_is_pending_is_read_at_once_and_goes_with_a_rollback() {
    let mut table = Table::new(1 << 20);
    set(&mut table, "a", "1");
    let mut pending = Pending::default();
    let mut state = view(&table, &mut pending, 0);
    state.set(b"a", Some("2".into()), 0).unwrap();
    let mark = state.pending.mark();
    state.set(b"a", None, 0).unwrap();
    state.set(b"b", Some("3".into()), 0).unwrap();
    assert_eq!((state.get(b"a"), state.get(b"b")), (None, Some("3".into())));
    state.pending.rollback(mark);
    assert_eq!((state.get(b"a"), state.get(b"b")), (Some("2".into()), None));
    table.apply(pending.take());
    let mut none = Pending::default();
    assert_eq!(view(&table, &mut none, 0).get(b"a"), Some("2".into()));
}

#[test]
fn the_bound_counts_what_is_pending_and_lets_shrink() {
    let mut table = Table::new(2 * (ENTRY_BYTES + 2));
    set(&mut table, "a", "1");
    let mut pending = Pending::default();
    let mut state = view(&table, &mut pending, 0);
    state.set(b"b", Some("1".into()), 0).unwrap();
    let full = state.set(b"c", Some("1".into()), 0).unwrap_err();
    assert_eq!((full.bytes, full.limit), (3 * 162, 2 * 162));
    state.set(b"a", None, 0).unwrap();
    state.set(b"c", Some("1".into()), 0).unwrap();
    let writes = pending.take();
    table.apply(writes);
    assert_eq!(table.bytes(), 2 * 162);
    table.set_limit(10);
    let mut pending = Pending::default();
    let mut state = view(&table, &mut pending, 0);
    assert!(state.set(b"c", Some("22".into()), 0).is_err());
    assert!(
        state.set(b"c", Some("".into()), 0).is_ok(),
        "less is always taken"
    );
}

#[test]
fn values_expire() {
    let mut table = Table::new(1 << 20);
    let mut pending = Pending::default();
    view(&table, &mut pending, 100)
        .set(b"a", Some("1".into()), 50)
        .unwrap();
    table.apply(pending.take());
    assert!(view(&table, &mut pending, 149).get(b"a").is_some());
    assert!(view(&table, &mut pending, 150).get(b"a").is_none());
    assert_eq!(view(&table, &mut pending, 150).scan(b"", None, 9, 99), []);
    table.expire(150);
    assert_eq!((table.len(), table.bytes()), (0, 0));
}

#[test]
fn scans_are_in_order_from_both_layers() {
    let mut table = Table::new(1 << 20);
    for key in ["a", "k1", "k2", "k3", "z"] {
        set(&mut table, key, "old");
    }
    let mut pending = Pending::default();
    let mut state = view(&table, &mut pending, 0);
    state.set(b"k2", None, 0).unwrap();
    state.set(b"k25", Some("new".into()), 0).unwrap();
    state.set(b"k3", Some("new".into()), 0).unwrap();
    let found = state.scan(b"k", None, 9, 1000);
    assert_eq!(keys(&found), ["k1", "k25", "k3"]);
    assert_eq!(found[2].1, "new");
    assert_eq!(keys(&state.scan(b"k", Some(b"k1"), 1, 1000)), ["k25"]);
    assert_eq!(
        keys(&state.scan(b"k", None, 9, 6)),
        ["k1"],
        "bounded in bytes"
    );
    assert_eq!(
        keys(&state.scan(b"k", None, 9, 1)),
        ["k1"],
        "but never nothing"
    );
    assert_eq!(keys(&state.scan(b"", Some(b"k3"), 9, 99)), ["z"]);
}

#[test]
fn a_value_that_never_changes_does_not_hold_up_the_log() {
    let mut table = Table::new(1 << 30);
    set(&mut table, "old", "stays");
    let value = "x".repeat(1000);
    let (mut moved, mut spans) = (0, Vec::new());
    for _ in 0..20_000 {
        let again = table.oldest(2);
        moved += again.len();
        table.apply(again);
        set(&mut table, "new", &value);
        let first = *table.positions.first_key_value().unwrap().0;
        spans.push(table.written - first);
    }
    assert!(moved > 2, "it was written again, {moved} times");
    assert!(moved < 100, "and seldom: {moved} times");
    let most = spans.into_iter().max().unwrap();
    assert!(most < 3 << 20, "the log held {most} bytes");
}

proptest! {
    /// A map of its own is the model.
    #[test]
    fn it_is_a_map(steps in prop::collection::vec((0u8..4, 0u8..6, 0u8..4), 1..200)) {
        let mut table = Table::new(u64::MAX >> 1);
        let mut pending = Pending::default();
        let mut counts: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut model = counts.clone();
        let mut marked = (pending.mark(), model.clone());
        for (what, key, value) in steps {
            let (key, value) = (vec![b'k', key], vec![value; value as usize]);
            match what {
                0 | 1 => {
                    let bytes = (what == 0).then(|| Bytes::from(value.clone()));
                    view(&table, &mut pending, 0).set(&key, bytes, 0).unwrap();
                    match what {
                        0 => drop(model.insert(key, value)),
                        _ => drop(model.remove(&key)),
                    }
                }
                2 if value.len() < 2 => {
                    pending.rollback(marked.0);
                    model = marked.1.clone();
                }
                2 => marked = (pending.mark(), model.clone()),
                _ => {
                    table.apply(pending.take());
                    counts = model.clone();
                    marked = (pending.mark(), model.clone());
                }
            }
            let found = view(&table, &mut pending, 0).scan(b"k", None, 99, 9999);
            let found: BTreeMap<Vec<u8>, Vec<u8>> =
                found.into_iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
            prop_assert_eq!(&found, &model);
        }
        drop(pending);
        let bytes: u64 = table.values.iter().map(|(k, v)| cost(k, &v.bytes)).sum();
        prop_assert_eq!(table.bytes(), bytes);
        prop_assert_eq!(table.positions.len(), table.len());
        prop_assert_eq!(counts.len(), table.len());
    }
}
