//! What the tests share.

mod client;
mod log;
mod program;
mod purchases;

pub(crate) use client::Client;
pub(crate) use log::{assert_no_gaps, events, heads};
pub(crate) use program::{Output, Program, Server, send_signal};
pub(crate) use purchases::PurchaseFile;

/// The seed of a test that draws by chance: `ORDER_TEST_SEED`, else a new one. It is printed, which
/// shows when the test fails.
pub(crate) fn seed() -> u64 {
    let chosen = std::env::var("ORDER_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = chosen.unwrap_or_else(rand::random);
    println!("again with ORDER_TEST_SEED={seed}");
    seed
}

/// The text with times and positions, which differ from run to run, replaced.
pub(crate) fn masked(text: &str) -> String {
    let masked = |line: &str| {
        let words: Vec<_> = line.split_whitespace().map(masked_word).collect();
        // Their width differs too.
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
