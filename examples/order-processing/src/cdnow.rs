//! Purchase files in the layout of the CDNOW data set: a header line, then customer number, date,
//! number of CDs and dollars, parted by blanks; lines may end in CR LF.

use std::collections::HashMap;
use std::io::{self, BufRead};

use composable_rust::prelude::*;

use crate::{Cents, Date, InvalidCents, InvalidDate, Order, OrderCommand, customer_number};

/// The columns, as the header line names them.
pub const COLUMNS: [&str; 4] = ["customer_id", "date", "number_of_cds", "dollar_value"];

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purchase {
    /// Who bought.
    pub customer: u32,
    /// When.
    pub date: Date,
    /// How many-th purchase of this customer on this day it is, from 1.
    pub nth: u32,
    /// How many CDs.
    pub units: u32,
    /// What they cost together; it may be nothing.
    pub amount: Cents,
}

impl Purchase {
    /// The order's id, made of nothing but the line's content and the lines of the same customer
    /// and day before it. So a file that grew gives the ids it gave before, and some more.
    pub fn order(&self) -> Id<Order> {
        Order::id(format!("{:05}-{}-{}", self.customer, self.date.digits(), self.nth))
    }

    /// The command that places the order.
    pub fn place(&self) -> OrderCommand {
        OrderCommand::Place {
            customer: customer_number(self.customer),
            placed_on: Some(self.date),
            units: self.units,
            amount: self.amount,
        }
    }
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The first line does not name the columns.
    #[error("the first line must name the columns {}", COLUMNS.join(" "))]
    Header,
    /// Not four columns.
    #[error("there are {0} columns instead of 4")]
    Columns(usize),
    /// The customer is no number.
    #[error("`{0}` is not a customer's number of up to nine digits")]
    Customer(String),
    /// The date is none.
    #[error(transparent)]
    Date(#[from] InvalidDate),
    /// The number of CDs is none, or 0.
    #[error("`{0}` is not a number of CDs from 1 to 999999999")]
    Units(String),
    /// The amount is none.
    #[error(transparent)]
    Amount(#[from] InvalidCents),
    /// The line is no text.
    #[error("it is not a text")]
    NotText,
    /// The file cannot be read on.
    #[error("the file cannot be read: {0}")]
    Read(#[from] io::Error),
}

impl Problem {
    /// Whether reading can go on after the line.
    pub fn can_be_skipped(&self) -> bool {
        !matches!(self, Self::Header | Self::Read(_))
    }
}

/// Reads a file line by line: the number of each line, and its purchase or what is wrong with it.
#[derive(Debug)]
pub struct Purchases<R> {
    input: R,
    line: u64,
    bytes: u64,
    seen: HashMap<(u32, Date), u32>,
    ended: bool,
}

impl<R: BufRead> Purchases<R> {
    /// Reads `input`.
    pub fn new(input: R) -> Self {
        Self { input, line: 0, bytes: 0, seen: HashMap::new(), ended: false }
    }

    /// How many bytes were read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next line without its end; `None` at the end of the file.
    fn read_line(&mut self) -> Option<Result<String, Problem>> {
        let mut line = Vec::new();
        match self.input.read_until(b'\n', &mut line) {
            Ok(0) => return None,
            Ok(count) => self.bytes += count as u64,
            Err(error) => return Some(Err(error.into())),
        }
        self.line += 1;
        Some(String::from_utf8(line).map_err(|_| Problem::NotText))
    }

    fn header(&mut self) -> Result<(), Problem> {
        let line = self.read_line().unwrap_or(Err(Problem::Header))?;
        if line.split_whitespace().eq(COLUMNS) { Ok(()) } else { Err(Problem::Header) }
    }

    fn purchase(&mut self, line: &str) -> Result<Purchase, Problem> {
        let columns: Vec<_> = line.split_ascii_whitespace().collect();
        let number = |text: &str| {
            let digits = text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<u32>().ok()).flatten()
        };
        let [customer, date, ..] = columns[..] else { return Err(Problem::Columns(columns.len())) };
        let customer = number(customer).ok_or_else(|| Problem::Customer(customer.to_owned()))?;
        let date = Date::from_digits(date)?;
        // A line that is wrong further right keeps its number, so that it can be put right later.
        let nth = self.seen.entry((customer, date)).and_modify(|n| *n += 1).or_insert(1);
        let nth = *nth;
        let [_, _, units, amount] = columns[..] else {
            return Err(Problem::Columns(columns.len()));
        };
        let units = number(units).filter(|units| *units > 0);
        let units = units.ok_or_else(|| Problem::Units(columns[2].to_owned()))?;
        Ok(Purchase { customer, date, nth, units, amount: amount.parse()? })
    }
}

impl<R: BufRead> Iterator for Purchases<R> {
    type Item = (u64, Result<Purchase, Problem>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if self.line == 0 {
            if let Err(problem) = self.header() {
                self.ended = true;
                return Some((1, Err(problem)));
            }
        }
        let read = self.read_line()?;
        let purchase = read.and_then(|line| self.purchase(&line));
        self.ended = matches!(&purchase, Err(problem) if !problem.can_be_skipped());
        Some((self.line, purchase))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Vec<(u64, Result<Purchase, String>)> {
        let text = format!(" customer_id  date number_of_cds  dollar_value\r\n{lines}");
        let purchases = Purchases::new(text.as_bytes());
        purchases.map(|(line, read)| (line, read.map_err(|p| p.to_string()))).collect()
    }

    fn problem(line: &str) -> String {
        let read = read(line);
        read[0].1.clone().expect_err("it is wrong")
    }

    #[test]
    fn lines_become_orders() {
        let read = read(
            " 00002 19970112  1   12.00\r\n 00002 19970112  5   77.00\r\n 00003 19970102  2    0.00",
        );
        let orders: Vec<_> = read
            .iter()
            .map(|(line, purchase)| {
                let purchase = purchase.as_ref().expect("it is right");
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
    fn what_is_wrong_is_said() {
        assert_eq!(problem(" 00002 19970112  1"), "there are 3 columns instead of 4");
        assert_eq!(problem(" 00002 19970112  1 2.00 3"), "there are 5 columns instead of 4");
        assert_eq!(problem("\r\n"), "there are 0 columns instead of 4");
        assert!(problem(" x2 19970112  1 2.00").starts_with("`x2` is not a customer's number"));
        assert!(problem(" 2 19970230  1 2.00").starts_with("`19970230` is not a day"));
        assert!(problem(" 2 19970112 -1 2.00").starts_with("`-1` is not a number of CDs"));
        assert!(problem(" 2 19970112  0 2.00").starts_with("`0` is not a number of CDs"));
        for amount in ["-2.00", "2.005", "2.5", "two", "2", "1e3"] {
            assert!(problem(&format!(" 2 19970112 1 {amount}")).contains("is not an amount"));
        }
    }

    #[test]
    fn a_wrong_line_keeps_its_number() {
        let read = read(" 2 19970112 1 x\n 2 19970112 1 1.00\n");
        assert_eq!(read[1].1.as_ref().map(|purchase| purchase.nth), Ok(2));
    }

    #[test]
    fn another_header_ends_it() {
        for text in ["", "id date cds dollars\n1 19970112 1 1.00\n", " 00002 19970112 1 12.00\n"] {
            let read: Vec<_> = Purchases::new(text.as_bytes()).collect();
            assert!(matches!(read[..], [(1, Err(Problem::Header))]));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_one_wrong_line() {
        let mut text = format!("{}\n", COLUMNS.join(" ")).into_bytes();
        text.extend(b"\xff\xfe\n 2 19970112 1 1.00\n");
        let read: Vec<_> = Purchases::new(&text[..]).collect();
        assert!(matches!(read[..], [(2, Err(Problem::NotText)), (3, Ok(_))]));
    }
}
