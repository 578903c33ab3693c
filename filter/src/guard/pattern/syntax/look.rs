//! Assertions about the position between two characters.

/// An assertion about the position between two characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Start,
    End,
    LineStart,
    LineEnd,
    CrlfStart,
    CrlfEnd,
    Boundary,
    NoBoundary,
    WordStart,
    WordEnd,
    NoWordBefore,
    NoWordAfter,
}

/// What is next to such a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edge {
    /// The start or end of the text.
    None,
    Word,
    LineFeed,
    CarriageReturn,
    Other,
}

// === impl Look ===

impl Look {
    /// Returns whether the assertion holds between `before` and `after`.
    pub fn holds(self, before: Edge, after: Edge) -> bool {
        let (word_before, word_after) = (before == Edge::Word, after == Edge::Word);
        match self {
            Self::Start => before == Edge::None,
            Self::End => after == Edge::None,
            Self::LineStart => matches!(before, Edge::None | Edge::LineFeed),
            Self::LineEnd => matches!(after, Edge::None | Edge::LineFeed),
            Self::CrlfStart => match before {
                Edge::None | Edge::LineFeed => true,
                Edge::CarriageReturn => after != Edge::LineFeed,
                _ => false,
            },
            Self::CrlfEnd => match after {
                Edge::None | Edge::CarriageReturn => true,
                Edge::LineFeed => before != Edge::CarriageReturn,
                _ => false,
            },
            Self::Boundary => word_before != word_after,
            Self::NoBoundary => word_before == word_after,
            Self::WordStart => !word_before && word_after,
            Self::WordEnd => word_before && !word_after,
            Self::NoWordBefore => !word_before,
            Self::NoWordAfter => !word_after,
        }
    }
}

// === impl Edge ===

impl Edge {
    pub fn of(byte: u8) -> Self {
        match byte {
            b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => Self::Word,
            b'\n' => Self::LineFeed,
            b'\r' => Self::CarriageReturn,
            _ => Self::Other,
        }
    }
}
