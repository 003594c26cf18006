//! The ledger of the simulated provider, in memory or in a file that processes share.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Payment;

/// The record of everything that the provider did, in order. Clones share one ledger.
///
/// In a file, each entry is one JSON line. Lines are only appended, each with one write, so
/// processes can share the file, and a killed process loses nothing. If two processes write at the
/// same time, the first line wins. An entry is ignored if it repeats a key, captures a payment
/// that was refunded or voided, or refunds an amount that was not captured; its writer then
/// decides again.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Mutex<LedgerState>>);

/// One entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The idempotency key of the call.
    pub key: String,
    /// The payment.
    pub payment: Id<Payment>,
    /// The kind of the entry.
    pub kind: EntryKind,
    /// The amount, in cents.
    pub cents: u64,
}

/// The kind of a ledger entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// The provider took the customer's money.
    Capture,
    /// The provider gave the money back.
    Refund,
    /// A refund without a capture: the provider never takes the money from then on.
    Void,
}

/// The totals of one payment.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    captured: u64,
    refunded: u64,
    /// `true` if the payment was refunded or voided.
    closed: bool,
}

/// The valid entries, and the totals computed from them.
#[derive(Debug, Default)]
struct LedgerState {
    file: Option<File>,
    /// The number of bytes read from the file.
    bytes_read: u64,
    entries: Vec<Entry>,
    keys: HashSet<String>,
    accounts: HashMap<Id<Payment>, Account>,
}

impl Ledger {
    /// Creates an empty ledger in memory.
    pub fn in_memory() -> Self {
        Self(Arc::default())
    }

    /// Opens the ledger in the file at `path`, and creates the file if it does not exist.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or read, or is not a ledger.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = File::options().read(true).append(true).create(true).open(path)?;
        let mut state = LedgerState { file: Some(file), ..LedgerState::default() };
        state.catch_up()?;
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    /// Returns the valid entries, in order.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        self.with(|state| Ok(state.entries.clone()))
    }

    /// Returns the amount of a payment that is captured and not refunded, in cents.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn balance(&self, payment: &Id<Payment>) -> io::Result<u64> {
        self.with(|state| {
            let account = state.account(payment);
            Ok(account.captured - account.refunded)
        })
    }

    /// Captures a payment; does nothing if that was done under this key before. Returns `false` if
    /// the payment was refunded or voided.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written. The entry may have been written; call again.
    pub fn capture(&self, payment: &Id<Payment>, cents: u64, key: &str) -> io::Result<bool> {
        self.with(|state| {
            loop {
                if state.keys.contains(key) {
                    return Ok(true);
                }
                if state.account(payment).closed {
                    return Ok(false);
                }
                state.write(key, payment, EntryKind::Capture, cents)?;
            }
        })
    }

    /// Refunds a payment and prevents later captures. Returns the refunded amount, in cents, also
    /// if it was refunded before.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written. The entry may have been written; call again.
    pub fn refund(&self, payment: &Id<Payment>, key: &str) -> io::Result<u64> {
        self.with(|state| {
            loop {
                let Account { captured, refunded, closed } = state.account(payment);
                match captured - refunded {
                    0 if closed => return Ok(refunded),
                    0 => state.write(key, payment, EntryKind::Void, 0)?,
                    left => state.write(key, payment, EntryKind::Refund, left)?,
                }
            }
        })
    }

    fn with<R>(&self, act: impl FnOnce(&mut LedgerState) -> io::Result<R>) -> io::Result<R> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.catch_up()?;
        act(&mut state)
    }
}

impl LedgerState {
    fn account(&self, payment: &Id<Payment>) -> Account {
        self.accounts.get(payment).copied().unwrap_or_default()
    }

    /// Writes an entry, and reads it back together with entries of other processes before it.
    fn write(
        &mut self,
        key: &str,
        payment: &Id<Payment>,
        kind: EntryKind,
        cents: u64,
    ) -> io::Result<()> {
        let entry = Entry { key: key.to_owned(), payment: payment.clone(), kind, cents };
        let Some(file) = &mut self.file else {
            self.add(entry);
            return Ok(());
        };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        file.write_all(&line)?;
        self.catch_up()
    }

    /// Reads the lines that were appended since the last call.
    fn catch_up(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.bytes_read))?;
        file.read_to_end(&mut bytes)?;
        // Text after the last line break is still being written.
        for line in
            bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"))
        {
            self.add(serde_json::from_slice(line)?);
            self.bytes_read += line.len() as u64;
        }
        Ok(())
    }

    /// Adds an entry if it is valid.
    fn add(&mut self, entry: Entry) {
        let account = self.accounts.entry(entry.payment.clone()).or_default();
        let left = account.captured - account.refunded;
        let valid = match entry.kind {
            EntryKind::Capture => !account.closed,
            EntryKind::Refund => left > 0 && entry.cents == left,
            EntryKind::Void => left == 0 && !account.closed,
        };
        if !valid || self.keys.contains(&entry.key) {
            return;
        }
        match entry.kind {
            EntryKind::Capture => account.captured += entry.cents,
            EntryKind::Refund => account.refunded += entry.cents,
            EntryKind::Void => {}
        }
        account.closed |= entry.kind != EntryKind::Capture;
        self.keys.insert(entry.key.clone());
        self.entries.push(entry);
    }
}
