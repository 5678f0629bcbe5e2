//! Where the host puts its answers.
//!
//! A host call that returns bytes asks this module for room while it runs. It gets the buffer
//! that the caller had ready, which is used again and again: nothing is allocated once it has
//! grown to what requests need.

#![expect(unsafe_code, reason = "the host writes into memory that Rust cannot see it write to")]

use std::cell::Cell;
use std::ptr;

thread_local! {
    /// The buffer of the host call that is running.
    static RECEIVER: Cell<*mut Vec<u8>> = const { Cell::new(ptr::null_mut()) };
}

/// Memory for what a host call returns.
#[derive(Default)]
pub(crate) struct HostBuffer {
    bytes: Vec<u8>,
}

impl HostBuffer {
    /// Runs a host call that returns bytes, and gives what it returned. The call gets the two
    /// places where the host writes the address and the length, and returns a status of the ABI;
    /// other than 0 is an error.
    pub(crate) fn receive(
        &mut self,
        call: impl FnOnce(*mut *mut u8, *mut usize) -> u32,
    ) -> Result<&[u8], u32> {
        let mut at = ptr::null_mut();
        let mut len = 0;
        RECEIVER.set(&raw mut self.bytes);
        let status = call(&raw mut at, &raw mut len);
        RECEIVER.set(ptr::null_mut());
        if status != 0 {
            return Err(status);
        }
        if at.is_null() || at != self.bytes.as_mut_ptr() || len > self.bytes.capacity() {
            self.bytes.clear();
        } else {
            // SAFETY: the host was given this allocation in `room_for_host`, with room for at
            // least `len` bytes, and has written that many.
            unsafe { self.bytes.set_len(len) };
        }
        Ok(&self.bytes)
    }
}

/// Room for `size` bytes of an answer.
pub(crate) fn room_for_host(size: usize) -> *mut u8 {
    let receiver = RECEIVER.get();
    if receiver.is_null() {
        // The host returns bytes that nobody has asked for: it keeps what it gets.
        return Vec::leak(Vec::with_capacity(size)).as_mut_ptr();
    }
    // SAFETY: `receive` set the pointer from a live `&mut`, does not touch the vector while the
    // host call runs, and clears the pointer when it is over.
    let bytes = unsafe { &mut *receiver };
    bytes.clear();
    bytes.reserve(size);
    bytes.as_mut_ptr()
}
