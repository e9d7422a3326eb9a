//! One number out of a JSON document, without building anything of the rest.
//!
//! What is accepted here is a document of which the whole text was checked, and of which
//! `serde_json` would give the same number; of anything else (a mistake in the text, a member that
//! is missing, is there twice or is no number, a key with escapes) nothing is said, and the caller
//! asks `serde_json`, which has the words for it. So a mistake in this file can only cost time as
//! long as it accepts too little, and the tests compare what it accepts.
//!
//! It is there because most of what the router spends on this plugin is the skipping of text:
//! strings are skipped 16 bytes at a time, which `serde_json` cannot do in a guest.

/// Objects and lists within each other that are followed.
const DEPTH_MAX: u32 = 32;

/// The text of the number that is the member `inner` of the object that is the member `outer` of
/// the document, which is an object.
pub fn number<'a>(document: &'a [u8], outer: &str, inner: &str) -> Option<&'a [u8]> {
    let mut cursor = Cursor { document, at: 0 };
    let mut is_there = false;
    let mut found = None;
    cursor.space();
    cursor.members(|cursor, key| {
        if key != outer.as_bytes() {
            return cursor.skip(DEPTH_MAX);
        }
        if std::mem::replace(&mut is_there, true) {
            return None;
        }
        cursor.members(|cursor, key| {
            if key != inner.as_bytes() {
                return cursor.skip(DEPTH_MAX);
            }
            let number = cursor.number()?;
            found.replace(number).is_none().then_some(())
        })
    })?;
    cursor.space();
    if cursor.at == document.len() {
        found
    } else {
        None
    }
}

struct Cursor<'a> {
    document: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The next byte; 0, which is nothing that JSON has outside of strings, at the end.
    #[inline(always)]
    fn peek(&self) -> u8 {
        self.document.get(self.at).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn eat(&mut self, byte: u8) -> Option<()> {
        if self.peek() != byte {
            return None;
        }
        self.at += 1;
        Some(())
    }

    #[inline(always)]
    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\t' | b'\r') {
            self.at += 1;
        }
    }

    /// An object: `each` is called at each value, with its key.
    #[inline(always)]
    fn members(&mut self, mut each: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.eat(b'{')?;
        self.space();
        if self.eat(b'}').is_some() {
            return Some(());
        }
        loop {
            self.eat(b'"')?;
            let start = self.at;
            self.run::<true>();
            let key = self.document.get(start..self.at)?;
            self.eat(b'"')?;
            self.space();
            self.eat(b':')?;
            self.space();
            each(self, key)?;
            self.space();
            match self.peek() {
                b',' => self.at += 1,
                b'}' => break,
                _ => return None,
            }
            self.space();
        }
        self.at += 1;
        Some(())
    }

    /// Any value.
    fn skip(&mut self, depth: u32) -> Option<()> {
        match self.peek() {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            b'n' => self.word(b"null"),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'[' => self.nested(depth, b']', |_| Some(())),
            b'{' => self.nested(depth, b'}', |cursor| {
                cursor.string()?;
                cursor.space();
                cursor.eat(b':')?;
                cursor.space();
                Some(())
            }),
            _ => None,
        }
    }

    /// A list or an object that nothing is wanted of; `key` takes what is before a value.
    fn nested(
        &mut self,
        depth: u32,
        close: u8,
        key: impl Fn(&mut Self) -> Option<()>,
    ) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        self.at += 1;
        self.space();
        if self.eat(close).is_some() {
            return Some(());
        }
        loop {
            key(self)?;
            self.skip(depth)?;
            self.space();
            if self.eat(close).is_some() {
                return Some(());
            }
            self.eat(b',')?;
            self.space();
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let end = self.at + word.len();
        if self.document.get(self.at..end)? != word {
            return None;
        }
        self.at = end;
        Some(())
    }

    #[inline(always)]
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    #[inline(always)]
    fn number(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        self.document.get(start..self.at)
    }

    #[inline(always)]
    fn string(&mut self) -> Option<()> {
        self.eat(b'"')?;
        loop {
            self.run::<false>();
            match self.peek() {
                b'"' => break,
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
        self.at += 1;
        Some(())
    }

    #[cold]
    fn escape(&mut self) -> Option<()> {
        self.at += 1;
        match self.peek() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => {
                let hex = self.document.get(self.at + 1..self.at + 5)?;
                if !hex.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                self.at += 5;
            }
            _ => return None,
        }
        Some(())
    }

    /// Goes on to the next quote, backslash or control character, or the end; with `PLAIN` also to
    /// the next byte that is not ASCII.
    #[inline(always)]
    fn run<const PLAIN: bool>(&mut self) {
        while let Some(block) = self.document[self.at..].first_chunk() {
            let ends = ends::<PLAIN>(block);
            if ends != 0 {
                self.at += ends.trailing_zeros() as usize;
                return;
            }
            self.at += block.len();
        }
        while self.at < self.document.len() && !is_end::<PLAIN>(self.document[self.at]) {
            self.at += 1;
        }
    }
}

#[inline(always)]
fn is_end<const PLAIN: bool>(byte: u8) -> bool {
    byte == b'"' || byte == b'\\' || byte < 0x20 || (PLAIN && !byte.is_ascii())
}

/// A bit for each byte at which a run ends, the first the lowest.
#[cfg(target_feature = "simd128")]
#[inline(always)]
fn ends<const PLAIN: bool>(block: &[u8; 16]) -> u32 {
    use std::arch::wasm32::{
        i8x16_lt, i8x16_splat, u8x16_bitmask, u8x16_eq, u8x16_lt, u8x16_splat, v128_load, v128_or,
    };
    // SAFETY: `block` is 16 bytes, and the load needs no alignment.
    let bytes = unsafe { v128_load(block.as_ptr().cast()) };
    let quoted = v128_or(
        u8x16_eq(bytes, u8x16_splat(b'"')),
        u8x16_eq(bytes, u8x16_splat(b'\\')),
    );
    // As signed numbers, bytes that are not ASCII are below 0x20 too.
    let low = if PLAIN {
        i8x16_lt(bytes, i8x16_splat(0x20))
    } else {
        u8x16_lt(bytes, u8x16_splat(0x20))
    };
    u32::from(u8x16_bitmask(v128_or(quoted, low)))
}

#[cfg(not(target_feature = "simd128"))]
#[inline(always)]
fn ends<const PLAIN: bool>(block: &[u8; 16]) -> u32 {
    let bit = |(place, byte): (usize, &u8)| u32::from(is_end::<PLAIN>(*byte)) << place;
    block.iter().enumerate().map(bit).sum()
}

#[cfg(test)]
#[path = "glance_tests.rs"]
mod tests;
