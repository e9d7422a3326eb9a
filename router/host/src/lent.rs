//! What imports may reach of the caller's, lent to the store for the time of one call: payloads
//! for `payload.read`, and the state.
//!
//! A store's data outlives any borrow, so the borrow is kept as pointers here, and this module is
//! the only one that follows them: they are set when a call begins, and gone when it ends.

use std::ptr::NonNull;

use crate::effects::State;
use crate::imports::READ_BYTES_MAX;
use crate::message::MessageRef;

/// Payloads of the batch that is being processed; none between calls.
#[derive(Default)]
pub(crate) struct LentPayloads(Vec<NonNull<[u8]>>);

// SAFETY: the pointers are to shared, immutable bytes (`&[u8]`, which is `Send` and `Sync`), and
// none are kept between calls; whichever thread makes a call lends anew.
unsafe impl Send for LentPayloads {}
// SAFETY: as above; reading through a shared reference only reads those bytes.
unsafe impl Sync for LentPayloads {}

impl LentPayloads {
    /// Lends the payloads of `batch`.
    ///
    /// # Safety
    /// `batch`'s payloads must stay borrowed until [`LentPayloads::end`] or the next `lend` is
    /// called, and no guest may run in between other than in the call that `batch` is passed to.
    pub(crate) unsafe fn lend(&mut self, batch: &[MessageRef<'_>]) {
        self.0.clear();
        self.0.extend(
            batch
                .iter()
                .map(|message| NonNull::from(message.record.payload())),
        );
    }

    /// Ends the loan.
    pub(crate) fn end(&mut self) {
        self.0.clear();
    }

    /// What `payload.read` gives.
    pub(crate) fn read(&self, message: u32, offset: u32, len: u32) -> Result<Vec<u8>, String> {
        let Some(payload) = self.0.get(message as usize) else {
            return Err(format!(
                "message {message} is not in the present call, which has {}",
                self.0.len()
            ));
        };
        if len > READ_BYTES_MAX {
            return Err(format!("{len} bytes at once, limit {READ_BYTES_MAX}"));
        }
        // SAFETY: `lend` promised that the payload stays borrowed while it is in this list.
        let payload = unsafe { payload.as_ref() };
        let start = payload.len().min(offset as usize);
        let end = payload.len().min(start.saturating_add(len as usize));
        Ok(payload[start..end].to_vec())
    }
}

/// The state that the import `state` works on; none between calls.
#[derive(Default)]
pub(crate) struct LentState(Option<NonNull<dyn State>>);

// SAFETY: the pointer is only there during a call, on the thread that makes it; between calls, when
// a store can move to another thread, there is none.
unsafe impl Send for LentState {}
// SAFETY: the pointer is followed only through an exclusive reference (`LentState::get`).
unsafe impl Sync for LentState {}

impl LentState {
    /// Lends `state`.
    ///
    /// # Safety
    /// `state` must stay borrowed, and untouched by others, until [`LentState::end`] or the next
    /// `lend` is called, and no guest may run in between other than in the call that it is for.
    pub(crate) unsafe fn lend(&mut self, state: Option<&mut (dyn State + '_)>) {
        self.0 = state.map(|state| {
            let state: NonNull<dyn State + '_> = NonNull::from(state);
            // SAFETY: only the lifetime of the trait object changes, which has no representation;
            // the caller promises that the loan ends within it.
            unsafe { std::mem::transmute::<NonNull<dyn State + '_>, NonNull<dyn State>>(state) }
        });
    }

    /// Ends the loan.
    pub(crate) fn end(&mut self) {
        self.0 = None;
    }

    /// The state, if one was lent.
    pub(crate) fn get(&mut self) -> Option<&mut dyn State> {
        // SAFETY: `lend` promised that nothing else touches the state while it is here, and the
        // exclusive reference to `self` lets only one caller at it.
        self.0.as_mut().map(|state| unsafe { state.as_mut() })
    }
}
