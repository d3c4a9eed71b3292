//! Tokens to syntax. Owns the grammars and the limits on an expression's text; does not look at placeholders' values or at names'
//! meaning (`resolver` does).
//!
//! Nothing here recurses: open parentheses and calls are kept on stacks of their own, so that no text can exhaust the thread's stack.
//! Operands go into one list in the order in which they are complete (an operand comes behind its own operands), so that what
//! follows can walk the list instead of a tree. A condition becomes a list of `Piece`s: its tests in order of writing, with the
//! jumps in between that `AND` and `OR` stand for.

mod condition;
mod update;

use model::ApiError;

use crate::lexer::{Kind, Token, tokenize};
use crate::texts::{self, Parameter};

/// Largest expression, in bytes.
const TEXT_BYTES_MAX: usize = 4096;

/// Number of an operand in `Syntax::operands`.
pub(crate) type OperandId = usize;

/// What all expressions have in common.
pub(crate) struct Syntax<'t> {
    pub(crate) parameter: Parameter,
    pub(crate) text: &'t str,
    pub(crate) tokens: Vec<Token>,
    /// Names, indexes and calls in order of writing.
    pub(crate) mentions: Vec<Mention>,
    pub(crate) calls: Vec<Call>,
    pub(crate) operands: Vec<OperandSyntax>,
}

/// Something that is checked in order of writing, before the expression's meaning is.
#[derive(Clone, Copy)]
pub(crate) enum Mention {
    /// A word that stands for a name.
    Word(Token),
    /// `#name`.
    Placeholder(Token),
    /// List index.
    Index(Token),
    /// A call, by number.
    Call(usize),
}

/// A call of a function.
pub(crate) struct Call {
    pub(crate) name: Token,
    /// Its result is an operand of a function or comparison, not a condition or the whole right side of SET.
    pub(crate) is_operand: bool,
}

/// An operand, its own operands by number.
pub(crate) enum OperandSyntax {
    Value(Token),
    Path(Vec<Part>),
    Call {
        call: usize,
        operands: Vec<OperandId>,
    },
    Arithmetic {
        operator: Token,
        left: OperandId,
        right: OperandId,
    },
}

/// One step of a path.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Word(Token),
    Placeholder(Token),
    Index(Token),
}

/// A piece of a condition. Pieces are run in order over one truth value: a test sets it, `Not` turns it over, `Skip` jumps forward.
pub(crate) enum Piece {
    Compare {
        operator: Token,
        left: OperandId,
        right: OperandId,
    },
    Between {
        value: OperandId,
        lower: OperandId,
        upper: OperandId,
    },
    In {
        value: OperandId,
        list: Vec<OperandId>,
    },
    Call(OperandId),
    /// `first`: the piece that the operator's operand begins with.
    Not {
        first: usize,
    },
    /// `AND` skips its right side when the left one is false, `OR` when it is true. `first`: where the left side begins.
    Skip {
        when: bool,
        to: usize,
        first: usize,
    },
}

/// One action of an update.
pub(crate) struct ActionSyntax {
    pub(crate) section: Kind,
    pub(crate) path: OperandId,
    /// Right side; none for REMOVE.
    pub(crate) value: Option<OperandId>,
}

/// An update's actions, and the first section that was repeated.
pub(crate) struct UpdateSyntax {
    pub(crate) actions: Vec<ActionSyntax>,
    pub(crate) repeated: Option<&'static str>,
}

/// Parses the text of a condition, filter or key condition.
pub(crate) fn parse_condition(
    parameter: Parameter,
    text: &str,
) -> Result<(Syntax<'_>, Vec<Piece>), ApiError> {
    let mut parser = Parser::new(parameter, text)?;
    let pieces = parser.condition()?;
    Ok((parser.syntax, pieces))
}

/// Parses the text of an update.
pub(crate) fn parse_update(text: &str) -> Result<(Syntax<'_>, UpdateSyntax), ApiError> {
    let mut parser = Parser::new(Parameter::Update, text)?;
    let update = parser.update()?;
    Ok((parser.syntax, update))
}

/// Parses the text of a projection; gives its paths.
pub(crate) fn parse_projection(text: &str) -> Result<(Syntax<'_>, Vec<OperandId>), ApiError> {
    let mut parser = Parser::new(Parameter::Projection, text)?;
    let mut paths = vec![parser.path()?];
    while parser.take(Kind::Comma) {
        paths.push(parser.path()?);
    }
    parser.expect(Kind::End)?;
    Ok((parser.syntax, paths))
}

struct Parser<'t> {
    syntax: Syntax<'t>,
    /// Number of the next token; never behind `End`.
    next: usize,
}

/// What is open while an operand is parsed.
enum OpenOperand {
    Parenthesis,
    Call {
        call: usize,
        operands: Vec<OperandId>,
    },
}

impl<'t> Parser<'t> {
    fn new(parameter: Parameter, text: &'t str) -> Result<Self, ApiError> {
        if text.is_empty() {
            return Err(parameter.invalid(texts::EMPTY));
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(parameter.invalid(texts::too_long(text.len())));
        }
        let syntax = Syntax {
            parameter,
            text,
            tokens: tokenize(text),
            mentions: Vec::new(),
            calls: Vec::new(),
            operands: Vec::new(),
        };
        Ok(Self { syntax, next: 0 })
    }

    fn token(&self, at: usize) -> Token {
        let end = self.syntax.text.len() as u32;
        self.syntax.tokens.get(at).copied().unwrap_or(Token {
            kind: Kind::End,
            start: end,
            end,
        })
    }

    fn peek(&self) -> Token {
        self.token(self.next)
    }

    fn bump(&mut self) -> Token {
        let token = self.peek();
        if token.kind != Kind::End {
            self.next += 1;
        }
        token
    }

    fn take(&mut self, kind: Kind) -> bool {
        let found = self.peek().kind == kind;
        if found {
            self.bump();
        }
        found
    }

    fn expect(&mut self, kind: Kind) -> Result<Token, ApiError> {
        if self.peek().kind == kind {
            Ok(self.bump())
        } else {
            Err(self.unexpected())
        }
    }

    /// The next token does not fit. "Near" is the text from the token before it to the one after it.
    #[cold]
    fn unexpected(&self) -> ApiError {
        let token = self.peek();
        let from = self
            .next
            .checked_sub(1)
            .map_or(token.start, |before| self.token(before).start);
        let to = self.token(self.next + 1).end;
        let near = self
            .syntax
            .text
            .get(from as usize..to as usize)
            .unwrap_or_default();
        self.syntax
            .parameter
            .invalid(texts::syntax(token.text(self.syntax.text), near))
    }

    #[cold]
    fn redundant(&self) -> ApiError {
        self.syntax.parameter.invalid(texts::REDUNDANT_PARENTHESES)
    }

    fn push(&mut self, operand: OperandSyntax) -> OperandId {
        self.syntax.operands.push(operand);
        self.syntax.operands.len() - 1
    }

    // ---- operands ----

    /// `name ('.' name | '[' index ']')*`
    fn path(&mut self) -> Result<OperandId, ApiError> {
        let mut parts = vec![self.name()?];
        loop {
            if self.take(Kind::Dot) {
                parts.push(self.name()?);
            } else if self.take(Kind::OpenBracket) {
                let index = self.expect(Kind::Integer)?;
                self.syntax.mentions.push(Mention::Index(index));
                parts.push(Part::Index(index));
                self.expect(Kind::CloseBracket)?;
            } else {
                return Ok(self.push(OperandSyntax::Path(parts)));
            }
        }
    }

    fn name(&mut self) -> Result<Part, ApiError> {
        let token = self.peek();
        let (mention, part) = match token.kind {
            Kind::Word => (Mention::Word(token), Part::Word(token)),
            Kind::NamePlaceholder => (Mention::Placeholder(token), Part::Placeholder(token)),
            _ => return Err(self.unexpected()),
        };
        self.bump();
        self.syntax.mentions.push(mention);
        Ok(part)
    }

    fn value(&mut self) -> Result<OperandId, ApiError> {
        let token = self.expect(Kind::ValuePlaceholder)?;
        Ok(self.push(OperandSyntax::Value(token)))
    }

    /// `:value | path | function '(' operand (',' operand)* ')' | '(' operand ')'`
    fn operand(&mut self) -> Result<OperandId, ApiError> {
        self.operand_with_parentheses().map(|(operand, _)| operand)
    }

    /// An operand, and whether it stands in parentheses.
    fn operand_with_parentheses(&mut self) -> Result<(OperandId, bool), ApiError> {
        let mut open = Vec::new();
        loop {
            // An operand begins here.
            let token = self.peek();
            let mut operand = match token.kind {
                Kind::Open => {
                    self.bump();
                    open.push(OpenOperand::Parenthesis);
                    continue;
                }
                Kind::Word if self.token(self.next + 1).kind == Kind::Open => {
                    self.bump();
                    self.bump();
                    let is_operand = open
                        .iter()
                        .any(|outer| matches!(outer, OpenOperand::Call { .. }));
                    let call = self.syntax.calls.len();
                    self.syntax.calls.push(Call {
                        name: token,
                        is_operand,
                    });
                    self.syntax.mentions.push(Mention::Call(call));
                    open.push(OpenOperand::Call {
                        call,
                        operands: Vec::new(),
                    });
                    continue;
                }
                Kind::ValuePlaceholder => self.value()?,
                _ => self.path()?,
            };
            // It is complete: close what it completes.
            let mut in_parentheses = false;
            loop {
                match open.pop() {
                    None => return Ok((operand, in_parentheses)),
                    Some(OpenOperand::Parenthesis) => {
                        self.expect(Kind::Close)?;
                        if in_parentheses {
                            return Err(self.redundant());
                        }
                        in_parentheses = true;
                    }
                    Some(OpenOperand::Call { call, mut operands }) => {
                        operands.push(operand);
                        if self.take(Kind::Comma) {
                            open.push(OpenOperand::Call { call, operands });
                            break;
                        }
                        self.expect(Kind::Close)?;
                        operand = self.push(OperandSyntax::Call { call, operands });
                        in_parentheses = false;
                    }
                }
            }
        }
    }

    /// Notes that a call's result is compared.
    fn compared(&mut self, operand: OperandId) {
        if let Some(OperandSyntax::Call { call, .. }) = self.syntax.operands.get(operand)
            && let Some(call) = self.syntax.calls.get_mut(*call)
        {
            call.is_operand = true;
        }
    }
}
