//! Keeps a share of the messages: at random, or always the same ones by a value of theirs. The
//! settings are described in `settings.json`.

use shelf_kit::{By, Fate, OnInvalid, Settings, Subjects};
use waypost_plugin::{
    Answer, Config, Decision, Filter, InitError, Interest, Message, Plugin, host,
};

struct Sample {
    subjects: Subjects,
    by: By,
    /// At random where there is none.
    has_by: bool,
    share: f64,
    otherwise: Fate,
    on_invalid: OnInvalid,
}

impl Plugin for Sample {
    fn init(config: &Config) -> Result<(Sample, Interest), InitError> {
        let settings = Settings::new(config);
        let mut subjects = Subjects::default();
        let share = settings.number("share", 0.0, 1.0)?;
        let share = share.ok_or_else(|| {
            InitError::of(
                "share",
                "is missing, expected a number from 0 to 1, such as 0.1",
            )
        })?;
        let has_by = !settings.texts("by").is_empty();
        let sample = Sample {
            by: By::of(&settings, &mut subjects, &[])?,
            has_by,
            share,
            otherwise: Fate::of(&settings, "otherwise", Fate::Drop)?,
            on_invalid: OnInvalid::of(&settings)?,
            subjects,
        };
        settings.finish()?;
        let interest = sample.subjects.interest();
        Ok((sample, interest))
    }

    fn settings_schema() -> String {
        include_str!("../settings.json").into()
    }
}

/// From 0 to below 1, the same for the same bytes, and evenly spread: FNV-1a, then the finish of
/// SplitMix64, since FNV's upper bits say little of short keys.
fn place(bytes: &[u8]) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

impl Filter for Sample {
    fn filter(&mut self, message: &Message<'_>) -> Answer {
        let kept = match self.has_by {
            false => host::random::chance(self.share),
            true => {
                let seen = match self.on_invalid.look(&mut self.subjects, message) {
                    Ok(seen) => seen,
                    Err(unread) => return unread.answer(),
                };
                // Those without a value are one group like any other.
                let key = self.by.key(&seen).unwrap_or_default();
                place(&key) < self.share
            }
        };
        match kept {
            true => Decision::Pass.into(),
            false => self.otherwise.answer("not in the sample"),
        }
    }
}

waypost_plugin::export!(Sample: filter, schema);

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_plugin::testing::{self, Input};

    fn kept(settings: &[(&str, &str)], inputs: Vec<Input>) -> Vec<bool> {
        let (mut sample, interest) = testing::init::<Sample>(settings).expect("it starts");
        let batch = testing::batch(&interest, inputs);
        let each = batch.iter().map(|message| sample.filter(&message).decision);
        each.map(|decision| decision == Decision::Pass).collect()
    }

    #[test]
    fn a_share_at_random() {
        let inputs = || vec![Input::new("t", ""); 10_000];
        let count = |share| {
            let kept = kept(&[("share", share)], inputs());
            kept.into_iter().filter(|kept| *kept).count()
        };
        assert_eq!((count("0"), count("1")), (0, 10_000));
        assert!((900..1_100).contains(&count("0.1")));
    }

    #[test]
    fn the_same_ones_by_a_value() {
        let settings = [("share", "0.25"), ("by", "$.id")];
        let input = |id: usize| Input::new("t", format!(r#"{{"id":{id}}}"#));
        let once = kept(&settings, (0..4_000).map(input).collect());
        let again = kept(&settings, (0..4_000).map(input).collect());
        assert_eq!(once, again);
        let count = once.into_iter().filter(|kept| *kept).count();
        assert!((900..1_100).contains(&count), "{count}");
    }

    #[test]
    fn a_larger_share_has_the_smaller_one_in_it() {
        let inputs = || {
            (0..1_000)
                .map(|id| Input::new("t", "").key(format!("k{id}")))
                .collect()
        };
        let small = kept(&[("share", "0.1"), ("by", "key")], inputs());
        let large = kept(&[("share", "0.5"), ("by", "key")], inputs());
        assert!(
            small
                .iter()
                .zip(&large)
                .all(|(small, large)| !small || *large)
        );
    }

    #[test]
    fn wrong_settings_are_named() {
        for (settings, setting) in [
            (&[][..], "share"),
            (&[("share", "2")], "share"),
            (&[("share", "10%")], "share"),
            (&[("share", "1"), ("by", "id")], "by"),
            (&[("share", "1"), ("rate", "1")], "rate"),
        ] {
            let Err(error) = testing::init::<Sample>(settings) else {
                panic!("{settings:?} is taken")
            };
            assert_eq!(error.setting.as_deref(), Some(setting));
        }
    }
}
