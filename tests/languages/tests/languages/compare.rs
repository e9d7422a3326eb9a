//! Whether a verdict is the expected one.

use serde_json::Value;
use waypost_host::Verdict;
use waypost_wire::record::Message;

use crate::cases::{Expected, Reason};

/// What is wrong with `found`, the verdict of the message `sent`.
pub fn verdict(found: &Verdict, expected: &Expected, sent: &Message) -> Option<String> {
    let fits = match (found, expected) {
        (Verdict::Pass, Expected::Pass) => true,
        (Verdict::Drop(Some(found)), Expected::Drop(reason)) => **found == **reason,
        (Verdict::DeadLetter(Some(found)), Expected::DeadLetter(Reason::Is(reason))) => {
            **found == **reason
        }
        (Verdict::DeadLetter(Some(found)), Expected::DeadLetter(Reason::Begins(begin))) => {
            found.starts_with(begin.as_str())
        }
        (Verdict::To(found), Expected::To(to)) => found.as_slice() == to,
        (Verdict::Edit(edit), Expected::Edit(message, json)) => {
            let mut changed = sent.clone();
            edit.clone().apply(&mut changed);
            return edited(changed, message, json);
        }
        _ => false,
    };
    (!fits).then(|| format!("{found:?}, expected {expected:?}"))
}

fn edited(mut found: Message, expected: &Message, json: &Value) -> Option<String> {
    let payload = serde_json::from_slice::<Value>(&found.payload);
    let same = payload
        .as_ref()
        .is_ok_and(|payload| same_json(payload, json));
    if !same {
        return Some(format!("payload {payload:?}, expected {json}"));
    }
    // Order of names is the language's own; order of the values of one name is not.
    let mut expected = expected.clone();
    found.headers.sort_by(|a, b| a.0.cmp(&b.0));
    expected.headers.sort_by(|a, b| a.0.cmp(&b.0));
    found.payload = expected.payload.clone();
    (found != expected).then(|| format!("{found:?}, expected {expected:?}"))
}

/// Numbers are compared by value: 5 and 5.0 are the same.
fn same_json(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(name, a)| b.get(name).is_some_and(|b| same_json(a, b)))
        }
        _ => a == b,
    }
}
