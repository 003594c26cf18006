//! The stop list.

/// Forbidden phrases, each with the reason and the words to use instead.
pub(super) const STOP_LIST: [(&str, &str); 12] = [
    ("anew", "no technical term: write again, recreate or restart"),
    ("made anew", "no technical term: write recreated"),
    ("comes again", "the term is redelivered or retried"),
    ("for good", "ambiguous: write permanently, or say until when"),
    ("gets on", "no technical term: write progresses or continues"),
    ("is told", "hides the sender: name who notifies, returns or reports"),
    ("let go of", "no technical term: write release, evict or drop"),
    ("many-th", "not English: write index or number"),
    ("nobody", "hides the actor: name who does not"),
    ("somebody", "hides the actor: name another process, task or caller"),
    ("unless said", "state the value: \"Default: 10 seconds.\""),
    ("whoever", "hides the actor: name the caller, the process or the user"),
];

/// A stop-list phrase in a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// The number of line breaks before it.
    pub(super) line: usize,
    pub(super) phrase: &'static str,
    pub(super) reason: &'static str,
}

/// Returns the stop-list phrases in `text`, including those that span a line break.
pub(super) fn find(text: &str) -> Vec<Match> {
    let words = words(text);
    let mut matches: Vec<Match> = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let found = STOP_LIST
            .iter()
            .filter(|(phrase, _)| begins_with(&words[at..], phrase))
            .map(|&(phrase, reason)| (phrase, reason, phrase.split(' ').count()))
            .max_by_key(|&(_, _, length)| length);
        match found {
            Some((phrase, reason, length)) => {
                matches.push(Match { line: words[at].0, phrase, reason });
                at += length;
            }
            None => at += 1,
        }
    }
    matches
}

fn begins_with(words: &[(usize, &str)], phrase: &str) -> bool {
    let initial = |text: &str| text.as_bytes().first().map(u8::to_ascii_lowercase);
    let mut words = words.iter();
    // Comparing first letters first avoids splitting the phrase for most words.
    initial(words.as_slice()[0].1) == initial(phrase)
        && phrase.split(' ').all(|expected| {
            words.next().is_some_and(|(_, word)| word.eq_ignore_ascii_case(expected))
        })
}

/// Returns the words of a text with the number of line breaks before each.
///
/// Punctuation counts as a word, so that a phrase never spans two clauses.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    for (number, line) in text.split('\n').enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let is_inside = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
            let length = match rest.find(|c: char| !is_inside(c)) {
                Some(0) => first.len_utf8(),
                Some(length) => length,
                None => rest.len(),
            };
            words.push((number, &rest[..length]));
            rest = rest[length..].trim_start();
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(usize, &'static str)> {
        find(text).iter().map(|found| (found.line, found.phrase)).collect()
    }

    #[test]
    fn phrases_are_found_in_any_case_and_across_lines() {
        assert_eq!(found("Whoever reads it anew, lets go."), [(0, "whoever"), (0, "anew")]);
        assert_eq!(found("a b\n  and for\n  good."), [(1, "for good")]);
        assert_eq!(found("nobody's, how many-th"), [(0, "nobody"), (0, "many-th")]);
    }

    #[test]
    fn the_longer_phrase_wins() {
        assert_eq!(found("it is made anew"), [(0, "made anew")]);
    }

    #[test]
    fn parts_of_words_and_of_other_clauses_are_left_alone() {
        assert_eq!(found("renewal, nobody_else, what it is for. Good."), []);
    }

    #[test]
    fn each_phrase_is_listed_once_with_a_reason() {
        for (index, (phrase, reason)) in STOP_LIST.iter().enumerate() {
            assert!(!reason.is_empty());
            assert!(STOP_LIST[index + 1..].iter().all(|(other, _)| other != phrase), "{phrase}");
        }
    }
}
