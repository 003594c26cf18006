//! What the simulated provider has done, in memory or on a file that several processes share.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Payment;

/// What the provider has done, in the order in which it did it. Clones are the same ledger.
///
/// On a file it is one JSON line for each entry, and lines are only ever appended, each with one
/// write: processes may share it, and killing one loses nothing. Two that write at the same moment
/// do not disturb each other, because the first line decides: one that repeats a key, captures
/// what was refunded or voided before, or refunds what is not there counts for nothing, and
/// whoever wrote it looks again.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Mutex<Book>>);

/// One thing that the provider did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The idempotency key of the call.
    pub key: String,
    /// Whose money moved.
    pub payment: Id<Payment>,
    /// What was done.
    pub kind: EntryKind,
    /// How much money moved.
    pub cents: u64,
}

/// What the provider did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// Took the customer's money.
    Capture,
    /// Gave it back.
    Refund,
    /// Was told to give back what it had not taken: it never takes it from now on.
    Void,
}

/// Where a payment stands.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    captured: u64,
    refunded: u64,
    /// Refunded or voided.
    closed: bool,
}

#[derive(Debug, Default)]
struct Book {
    file: Option<File>,
    /// How many bytes of the file are read.
    read: u64,
    entries: Vec<Entry>,
    keys: HashSet<String>,
    accounts: HashMap<Id<Payment>, Account>,
}

impl Ledger {
    /// An empty ledger of this process.
    pub fn in_memory() -> Self {
        Self(Arc::default())
    }

    /// The ledger on the file at `path`, which is created if there is none.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or read, or holds something else.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = File::options().read(true).append(true).create(true).open(path)?;
        let mut book = Book { file: Some(file), ..Book::default() };
        book.catch_up()?;
        Ok(Self(Arc::new(Mutex::new(book))))
    }

    /// All that counts, in order.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        self.with(|book| Ok(book.entries.clone()))
    }

    /// How much of a payment is taken and not given back.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn balance(&self, payment: &Id<Payment>) -> io::Result<u64> {
        self.with(|book| {
            let account = book.account(payment);
            Ok(account.captured - account.refunded)
        })
    }

    /// Takes the money; does nothing if that was done under this key before. `false` if the payment
    /// was refunded or voided.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written: it may have been done.
    pub fn capture(&self, payment: &Id<Payment>, cents: u64, key: &str) -> io::Result<bool> {
        self.with(|book| {
            loop {
                if book.keys.contains(key) {
                    return Ok(true);
                }
                if book.account(payment).closed {
                    return Ok(false);
                }
                book.write(key, payment, EntryKind::Capture, cents)?;
            }
        })
    }

    /// Gives back what was taken and never takes it again; says how much was given back, now or
    /// before.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written: it may have been done.
    pub fn refund(&self, payment: &Id<Payment>, key: &str) -> io::Result<u64> {
        self.with(|book| {
            loop {
                let Account { captured, refunded, closed } = book.account(payment);
                match captured - refunded {
                    0 if closed => return Ok(refunded),
                    0 => book.write(key, payment, EntryKind::Void, 0)?,
                    left => book.write(key, payment, EntryKind::Refund, left)?,
                }
            }
        })
    }

    fn with<R>(&self, act: impl FnOnce(&mut Book) -> io::Result<R>) -> io::Result<R> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.catch_up()?;
        act(&mut book)
    }
}

impl Book {
    fn account(&self, payment: &Id<Payment>) -> Account {
        self.accounts.get(payment).copied().unwrap_or_default()
    }

    /// Writes an entry, and reads it back with what others have written before it.
    fn write(
        &mut self,
        key: &str,
        payment: &Id<Payment>,
        kind: EntryKind,
        cents: u64,
    ) -> io::Result<()> {
        let entry = Entry { key: key.to_owned(), payment: payment.clone(), kind, cents };
        let Some(file) = &mut self.file else {
            self.enter(entry);
            return Ok(());
        };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        file.write_all(&line)?;
        self.catch_up()
    }

    /// Reads the lines that were written since.
    fn catch_up(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.read))?;
        file.read_to_end(&mut bytes)?;
        // Whatever follows the last line's end is still being written.
        for line in
            bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"))
        {
            self.enter(serde_json::from_slice(line)?);
            self.read += line.len() as u64;
        }
        Ok(())
    }

    /// Takes an entry in, if it counts.
    fn enter(&mut self, entry: Entry) {
        let account = self.accounts.entry(entry.payment.clone()).or_default();
        let left = account.captured - account.refunded;
        let counts = match entry.kind {
            EntryKind::Capture => !account.closed,
            EntryKind::Refund => left > 0 && entry.cents == left,
            EntryKind::Void => left == 0 && !account.closed,
        };
        if !counts || self.keys.contains(&entry.key) {
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
