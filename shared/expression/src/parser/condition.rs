//! The grammar of conditions. A parenthesis may hold a condition or an operand; which one shows only behind it.

use model::ApiError;

use super::{OperandId, OperandSyntax, Parser, Piece};
use crate::lexer::Kind;

/// What is open while a condition is parsed; `first` is the piece it begins with.
enum OpenCondition {
    Parenthesis { first: usize },
    Not { first: usize },
    And { skip: usize, first: usize },
    Or { skip: usize, first: usize },
}

/// What was parsed last, where a condition is expected.
enum Parsed {
    /// An operand; if it is a call, it may still turn out to be a condition.
    Operand(OperandId),
    Condition,
}

impl Parser<'_> {
    /// Conditions bind as NOT, then AND, then OR. A parenthesis may hold a condition or an operand; which one shows only behind it.
    pub(super) fn condition(&mut self) -> Result<Vec<Piece>, ApiError> {
        let mut pieces = Vec::new();
        let mut open = Vec::new();
        loop {
            // A condition begins here.
            match self.peek().kind {
                Kind::Not => {
                    self.bump();
                    open.push(OpenCondition::Not {
                        first: pieces.len(),
                    });
                    continue;
                }
                Kind::Open => {
                    self.bump();
                    open.push(OpenCondition::Parenthesis {
                        first: pieces.len(),
                    });
                    continue;
                }
                _ => {}
            }
            let mut parsed = Parsed::Operand(self.operand()?);
            let mut in_parentheses = false;
            // Where what was parsed begins.
            let mut first = pieces.len();
            // Go on behind it until the next condition begins.
            loop {
                let token = self.peek();
                if let Parsed::Operand(operand) = parsed {
                    // A parenthesis straight around an operand.
                    if token.kind == Kind::Close
                        && matches!(open.last(), Some(OpenCondition::Parenthesis { .. }))
                    {
                        self.bump();
                        open.pop();
                        if in_parentheses {
                            return Err(self.redundant());
                        }
                        in_parentheses = true;
                        continue;
                    }
                    match self.test(operand)? {
                        Some(piece) => {
                            pieces.push(piece);
                            in_parentheses = false;
                        }
                        // Neither compared nor a call.
                        None if !matches!(
                            self.syntax.operands.get(operand),
                            Some(OperandSyntax::Call { .. })
                        ) =>
                        {
                            return Err(self.unexpected());
                        }
                        None => pieces.push(Piece::Call(operand)),
                    }
                    parsed = Parsed::Condition;
                    continue;
                }
                match token.kind {
                    Kind::And => {
                        self.bump();
                        reduce(&mut open, &mut pieces, &mut first, Precedence::And);
                        let skip = pieces.len();
                        pieces.push(Piece::Skip {
                            when: false,
                            to: skip,
                            first,
                        });
                        open.push(OpenCondition::And { skip, first });
                        break;
                    }
                    Kind::Or => {
                        self.bump();
                        reduce(&mut open, &mut pieces, &mut first, Precedence::Or);
                        let skip = pieces.len();
                        pieces.push(Piece::Skip {
                            when: true,
                            to: skip,
                            first,
                        });
                        open.push(OpenCondition::Or { skip, first });
                        break;
                    }
                    Kind::Close => {
                        let reduced =
                            reduce(&mut open, &mut pieces, &mut first, Precedence::Parenthesis);
                        let Some(OpenCondition::Parenthesis { first: opened }) = open.pop() else {
                            return Err(self.unexpected());
                        };
                        self.bump();
                        if in_parentheses && !reduced {
                            return Err(self.redundant());
                        }
                        in_parentheses = true;
                        first = opened;
                    }
                    Kind::End => {
                        reduce(&mut open, &mut pieces, &mut first, Precedence::Parenthesis);
                        if !open.is_empty() {
                            return Err(self.unexpected());
                        }
                        return Ok(pieces);
                    }
                    _ => return Err(self.unexpected()),
                }
            }
        }
    }

    /// What follows an operand and makes a condition of it, if anything does.
    fn test(&mut self, operand: OperandId) -> Result<Option<Piece>, ApiError> {
        let operator = self.peek();
        Ok(Some(match operator.kind {
            Kind::Equal
            | Kind::NotEqual
            | Kind::Less
            | Kind::LessOrEqual
            | Kind::Greater
            | Kind::GreaterOrEqual => {
                self.bump();
                self.compared(operand);
                let right = self.compared_operand()?;
                Piece::Compare {
                    operator,
                    left: operand,
                    right,
                }
            }
            Kind::Between => {
                self.bump();
                self.compared(operand);
                let lower = self.compared_operand()?;
                self.expect(Kind::And)?;
                let upper = self.compared_operand()?;
                Piece::Between {
                    value: operand,
                    lower,
                    upper,
                }
            }
            Kind::In => {
                self.bump();
                self.compared(operand);
                self.expect(Kind::Open)?;
                let mut list = vec![self.compared_operand()?];
                while self.take(Kind::Comma) {
                    list.push(self.compared_operand()?);
                }
                self.expect(Kind::Close)?;
                Piece::In {
                    value: operand,
                    list,
                }
            }
            _ => return Ok(None),
        }))
    }

    fn compared_operand(&mut self) -> Result<OperandId, ApiError> {
        let operand = self.operand()?;
        self.compared(operand);
        Ok(operand)
    }
}

/// How far operators are closed: all that bind at least as tightly.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Precedence {
    /// Everything up to the innermost parenthesis.
    Parenthesis,
    Or,
    And,
}

/// Closes the open operators whose right side is now complete; whether there were any. `first` follows what is complete.
fn reduce(
    open: &mut Vec<OpenCondition>,
    pieces: &mut Vec<Piece>,
    first: &mut usize,
    down_to: Precedence,
) -> bool {
    let mut reduced = false;
    loop {
        match open.last() {
            Some(OpenCondition::Not { first: begin }) => {
                *first = *begin;
                pieces.push(Piece::Not { first: *begin });
            }
            Some(OpenCondition::And { skip, first: begin }) => {
                *first = *begin;
                land(pieces, *skip);
            }
            Some(OpenCondition::Or { skip, first: begin }) if down_to <= Precedence::Or => {
                *first = *begin;
                land(pieces, *skip);
            }
            _ => return reduced,
        }
        open.pop();
        reduced = true;
    }
}

/// Lets the skip at `skip` end behind the last piece.
fn land(pieces: &mut [Piece], skip: usize) {
    let end = pieces.len();
    if let Some(Piece::Skip { to, .. }) = pieces.get_mut(skip) {
        *to = end;
    }
}
