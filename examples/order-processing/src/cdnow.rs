//! Purchase files in the format of the CDNOW data set.
//!
//! The file has a header line, then one line for each purchase: customer number, date, number of
//! CDs and price in dollars, separated by spaces. Lines may end in CR LF.

use std::collections::HashMap;
use std::io::{self, BufRead};

use composable_rust::prelude::*;

use crate::{Cents, Date, InvalidCents, InvalidDate, Order, OrderCommand, customer_number};

/// The column names in the header line.
pub const COLUMNS: [&str; 4] = ["customer_id", "date", "number_of_cds", "dollar_value"];

/// One purchase: a line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purchase {
    /// The customer's number.
    pub customer: u32,
    /// The day of the purchase.
    pub date: Date,
    /// The purchase's number among the customer's purchases of the day, starting at 1.
    pub sequence: u32,
    /// The number of CDs.
    pub units: u32,
    /// The price of all CDs together; may be 0.
    pub amount: Cents,
}

impl Purchase {
    /// Returns the id of the order: the customer, the day and the number of the purchase.
    ///
    /// The id depends only on this line and on earlier lines of the same customer and day. So lines
    /// that are appended to the file do not change the ids of existing lines.
    pub fn order(&self) -> Id<Order> {
        Order::id(format!("{:05}-{}-{}", self.customer, self.date.digits(), self.sequence))
    }

    /// Returns the command that places the order.
    pub fn place(&self) -> OrderCommand {
        OrderCommand::Place {
            customer: customer_number(self.customer),
            placed_on: Some(self.date),
            units: self.units,
            amount: self.amount,
        }
    }
}

/// The reason why a line cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The first line does not name the columns.
    #[error("the first line must name the columns {}", COLUMNS.join(" "))]
    Header,
    /// The line does not have four columns.
    #[error("there are {0} columns instead of 4")]
    Columns(usize),
    /// The customer is not a number.
    #[error("`{0}` is not a customer number of up to nine digits")]
    Customer(String),
    /// The date is invalid.
    #[error(transparent)]
    Date(#[from] InvalidDate),
    /// The number of CDs is invalid, or 0.
    #[error("`{0}` is not a number of CDs from 1 to 999999999")]
    Units(String),
    /// The amount is invalid.
    #[error(transparent)]
    Amount(#[from] InvalidCents),
    /// The line is not UTF-8.
    #[error("the line is not UTF-8 text")]
    NotUtf8,
    /// The rest of the file cannot be read.
    #[error("the file cannot be read: {0}")]
    Read(#[from] io::Error),
}

impl LineError {
    /// Returns `true` if the lines after the invalid line can be read.
    pub fn can_be_skipped(&self) -> bool {
        !matches!(self, Self::Header | Self::Read(_))
    }
}

/// An iterator over the lines of a file: the number of each line, with its purchase or its error.
#[derive(Debug)]
pub struct Purchases<R> {
    input: R,
    line: u64,
    bytes_read: u64,
    /// The number of purchases of each customer and day so far.
    counts: HashMap<(u32, Date), u32>,
    ended: bool,
}

impl<R: BufRead> Purchases<R> {
    /// Creates a reader of `input`.
    pub fn new(input: R) -> Self {
        Self { input, line: 0, bytes_read: 0, counts: HashMap::new(), ended: false }
    }

    /// Returns the number of bytes read.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Reads the next line; `None` at the end of the file.
    fn read_line(&mut self) -> Option<Result<String, LineError>> {
        let mut line = Vec::new();
        match self.input.read_until(b'\n', &mut line) {
            Ok(0) => return None,
            Ok(count) => self.bytes_read += count as u64,
            Err(error) => return Some(Err(error.into())),
        }
        self.line += 1;
        Some(String::from_utf8(line).map_err(|_| LineError::NotUtf8))
    }

    fn header(&mut self) -> Result<(), LineError> {
        let line = self.read_line().unwrap_or(Err(LineError::Header))?;
        if line.split_whitespace().eq(COLUMNS) { Ok(()) } else { Err(LineError::Header) }
    }

    fn purchase(&mut self, line: &str) -> Result<Purchase, LineError> {
        let columns: Vec<_> = line.split_ascii_whitespace().collect();
        let number = |text: &str| {
            let digits = text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<u32>().ok()).flatten()
        };
        let [customer, date, ..] = columns[..] else {
            return Err(LineError::Columns(columns.len()));
        };
        let customer = number(customer).ok_or_else(|| LineError::Customer(customer.to_owned()))?;
        let date = Date::from_digits(date)?;
        // A line with an error in a later column takes a sequence number too, so that correcting
        // the line does not change the ids of other lines.
        let sequence = self.counts.entry((customer, date)).and_modify(|n| *n += 1).or_insert(1);
        let sequence = *sequence;
        let [_, _, units, amount] = columns[..] else {
            return Err(LineError::Columns(columns.len()));
        };
        let units = number(units).filter(|units| *units > 0);
        let units = units.ok_or_else(|| LineError::Units(columns[2].to_owned()))?;
        Ok(Purchase { customer, date, sequence, units, amount: amount.parse()? })
    }
}

impl<R: BufRead> Iterator for Purchases<R> {
    type Item = (u64, Result<Purchase, LineError>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if self.line == 0 {
            if let Err(error) = self.header() {
                self.ended = true;
                return Some((1, Err(error)));
            }
        }
        let read = self.read_line()?;
        let purchase = read.and_then(|line| self.purchase(&line));
        self.ended = matches!(&purchase, Err(error) if !error.can_be_skipped());
        Some((self.line, purchase))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Vec<(u64, Result<Purchase, String>)> {
        let text = format!(" customer_id  date number_of_cds  dollar_value\r\n{lines}");
        let purchases = Purchases::new(text.as_bytes());
        purchases.map(|(line, read)| (line, read.map_err(|error| error.to_string()))).collect()
    }

    fn error_of(line: &str) -> String {
        let read = read(line);
        read[0].1.clone().expect_err("an error")
    }

    #[test]
    fn a_line_becomes_an_order() {
        let read = read(
            " 00002 19970112  1   12.00\r\n 00002 19970112  5   77.00\r\n 00003 19970102  2    0.00",
        );
        let orders: Vec<_> = read
            .iter()
            .map(|(line, purchase)| {
                let purchase = purchase.as_ref().expect("a purchase");
                (*line, purchase.order().to_string(), purchase.units, purchase.amount.0)
            })
            .collect();
        assert_eq!(
            orders,
            [
                (2, "00002-19970112-1".to_owned(), 1, 1200),
                (3, "00002-19970112-2".to_owned(), 5, 7700),
                (4, "00003-19970102-1".to_owned(), 2, 0),
            ]
        );
    }

    #[test]
    fn an_error_quotes_the_invalid_text() {
        assert_eq!(error_of(" 00002 19970112  1"), "there are 3 columns instead of 4");
        assert_eq!(error_of(" 00002 19970112  1 2.00 3"), "there are 5 columns instead of 4");
        assert_eq!(error_of("\r\n"), "there are 0 columns instead of 4");
        assert!(error_of(" x2 19970112  1 2.00").starts_with("`x2` is not a customer number"));
        assert!(error_of(" 2 19970230  1 2.00").starts_with("`19970230` is not a day"));
        assert!(error_of(" 2 19970112 -1 2.00").starts_with("`-1` is not a number of CDs"));
        assert!(error_of(" 2 19970112  0 2.00").starts_with("`0` is not a number of CDs"));
        for amount in ["-2.00", "2.005", "2.5", "two", "2", "1e3"] {
            assert!(error_of(&format!(" 2 19970112 1 {amount}")).contains("is not an amount"));
        }
    }

    #[test]
    fn an_invalid_line_takes_a_number() {
        let read = read(" 2 19970112 1 x\n 2 19970112 1 1.00\n");
        assert_eq!(read[1].1.as_ref().map(|purchase| purchase.sequence), Ok(2));
    }

    #[test]
    fn another_header_ends_the_file() {
        for text in ["", "id date cds dollars\n1 19970112 1 1.00\n", " 00002 19970112 1 12.00\n"] {
            let read: Vec<_> = Purchases::new(text.as_bytes()).collect();
            assert!(matches!(read[..], [(1, Err(LineError::Header))]));
        }
    }

    #[test]
    fn a_line_that_is_not_utf_8_is_one_error() {
        let mut text = format!("{}\n", COLUMNS.join(" ")).into_bytes();
        text.extend(b"\xff\xfe\n 2 19970112 1 1.00\n");
        let read: Vec<_> = Purchases::new(&text[..]).collect();
        assert!(matches!(read[..], [(2, Err(LineError::NotUtf8)), (3, Ok(_))]));
    }
}
