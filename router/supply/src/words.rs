//! Words of somebody who is not trusted, for people.

/// Characters that are shown of a text.
pub(crate) const SHOWN: usize = 300;

/// One line, not too long, without control characters.
pub(crate) fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = text.chars().map(plain).take(SHOWN).collect();
    if text.chars().count() > SHOWN {
        shown.push('…');
    }
    shown
}
