//! Helpers of the tests.

mod client;
mod log;
mod program;
mod purchases;

pub(crate) use client::Client;
pub(crate) use log::{assert_no_gaps, event_count, events};
pub(crate) use program::{Output, Program, Server, send_signal};
pub(crate) use purchases::PurchaseFile;

/// Returns the seed of a randomised test: `ORDER_TEST_SEED`, or a random one. Prints it, so that
/// the output of a failed test has it.
pub(crate) fn seed() -> u64 {
    let chosen = std::env::var("ORDER_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = chosen.unwrap_or_else(rand::random);
    println!("repeat with ORDER_TEST_SEED={seed}");
    seed
}

/// Replaces times and positions, which differ from run to run.
pub(crate) fn masked(text: &str) -> String {
    let masked = |line: &str| {
        let words: Vec<_> = line.split_whitespace().map(masked_word).collect();
        // The widths of the columns differ too.
        if words.contains(&"[time]") { words.join(" ") } else { line.to_owned() }
    };
    text.lines().map(|line| masked(line) + "\n").collect()
}

fn masked_word(word: &str) -> &str {
    let position = word.split_once(':').and_then(|(partition, offset)| {
        Some((partition.parse::<u16>().ok()?, offset.parse::<u64>().ok()?))
    });
    let is_time = word.get(10..11) == Some("T") && word.ends_with('Z');
    match position {
        Some(_) => "[position]",
        None if is_time => "[time]",
        None => word,
    }
}
