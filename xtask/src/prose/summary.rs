//! Doc summaries and the words that they may not begin with.

use super::scanner::{Block, Kind};

/// Words that make a summary an indirect question ("What it is asked.").
const QUESTION_WORDS: [&str; 9] =
    ["What", "How", "Whether", "Where", "Why", "Who", "Whom", "Whose", "Which"];

/// The first sentence of a block of docs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) line: usize,
    pub(super) text: String,
}

impl Summary {
    /// Returns the summary of a block, if the block is docs and has text.
    pub(super) fn of(block: &Block) -> Option<Self> {
        if block.kind == Kind::Ordinary {
            return None;
        }
        let start = block.lines.iter().position(|line| !line.text.trim().is_empty())?;
        let paragraph = block.lines[start..].iter().take_while(|line| !line.text.trim().is_empty());
        let texts: Vec<&str> = paragraph.map(|line| line.text.trim()).collect();
        let joined = texts.join(" ");
        let end = joined.find(". ").map_or(joined.len(), |at| at + 1);
        Some(Self { line: block.lines[start].number, text: joined[..end].to_owned() })
    }

    /// Returns `true` if the summary begins with a question word.
    pub(super) fn is_question(&self) -> bool {
        let text = self.text.trim_start_matches(|c: char| "#*_\"“( ".contains(c));
        let word = text.split(|c: char| !c.is_alphanumeric() && c != '_').next();
        word.is_some_and(|word| QUESTION_WORDS.iter().any(|known| known.eq_ignore_ascii_case(word)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::scanner::scan;
    use super::*;

    fn summary(source: &str) -> Summary {
        Summary::of(&scan(source)[0]).unwrap()
    }

    #[test]
    fn a_summary_ends_with_its_sentence_or_its_paragraph() {
        assert_eq!(summary("/// A b\n/// c. D.").text, "A b c.");
        assert_eq!(summary("///\n/// A b\n///\n/// c"), Summary { line: 2, text: "A b".into() });
        assert_eq!(summary("/// Since 1.85 it.").text, "Since 1.85 it.");
    }

    #[test]
    fn ordinary_comments_and_empty_docs_have_none() {
        assert_eq!(Summary::of(&scan("// What it is.")[0]), None);
        assert_eq!(Summary::of(&scan("///\n///")[0]), None);
    }

    #[test]
    fn questions_are_recognised() {
        for text in ["What it is asked.", "**How** often", "whose turn", "# Why", "“Who” asks"]
        {
            assert!(summary(&format!("/// {text}")).is_question(), "{text}");
        }
        for text in ["However it ends.", "`What`", "[`Why`]", "Whatever", "The place where it is"] {
            assert!(!summary(&format!("/// {text}")).is_question(), "{text}");
        }
    }
}
