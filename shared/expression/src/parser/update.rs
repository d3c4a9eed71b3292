//! The grammar of updates.

use model::ApiError;

use super::{ActionSyntax, OperandId, OperandSyntax, Parser, UpdateSyntax};
use crate::lexer::Kind;

impl Parser<'_> {
    /// `(SET … | REMOVE … | ADD … | DELETE …)+`
    pub(super) fn update(&mut self) -> Result<UpdateSyntax, ApiError> {
        let mut actions = Vec::new();
        let mut seen = Vec::new();
        let mut repeated = None;
        loop {
            let section = self.peek().kind;
            let name = match section {
                Kind::Set => "SET",
                Kind::Remove => "REMOVE",
                Kind::Add => "ADD",
                Kind::Delete => "DELETE",
                _ => return Err(self.unexpected()),
            };
            self.bump();
            if seen.contains(&name) {
                repeated = repeated.or(Some(name));
            } else {
                seen.push(name);
            }
            loop {
                let path = self.path()?;
                let value = match section {
                    Kind::Set => {
                        self.expect(Kind::Equal)?;
                        Some(self.right_side()?)
                    }
                    Kind::Remove => None,
                    _ => Some(self.value()?),
                };
                actions.push(ActionSyntax {
                    section,
                    path,
                    value,
                });
                if !self.take(Kind::Comma) {
                    break;
                }
            }
            if self.peek().kind == Kind::End {
                return Ok(UpdateSyntax { actions, repeated });
            }
        }
    }

    /// `sum | '(' sum ')' | operand` where `sum` is `operand ('+' | '-') operand`. As in a condition, what a parenthesis holds shows
    /// only behind its first operand.
    fn right_side(&mut self) -> Result<OperandId, ApiError> {
        let mut opened = 0_usize;
        while self.peek().kind == Kind::Open {
            self.bump();
            opened += 1;
        }
        let mut operand = self.operand()?;
        // Parentheses straight around what was parsed last, and whether that is a sum.
        let mut around = 0;
        let mut is_sum = false;
        loop {
            let token = self.peek();
            match token.kind {
                Kind::Close if opened > 0 => {
                    self.bump();
                    opened -= 1;
                    around += 1;
                    if around > 1 {
                        return Err(self.redundant());
                    }
                }
                Kind::Plus | Kind::Minus if !is_sum => {
                    self.bump();
                    let right = self.operand()?;
                    operand = self.push(OperandSyntax::Arithmetic {
                        operator: token,
                        left: operand,
                        right,
                    });
                    is_sum = true;
                    around = 0;
                }
                _ if opened > 0 => return Err(self.unexpected()),
                _ => return Ok(operand),
            }
        }
    }
}
