//! WHERE: the grammar of conditions and what they are made of.

use model::{ApiError, AttributeValue};

use super::lexer::Token;
use super::parser::Parser;
use super::texts;
use crate::condition::{Comparison, Condition, Instruction, Test};
use crate::operand::Operand;
use crate::path::Path;

/// How deep conditions are nested at most.
const LEVELS_MAX: usize = 64;
/// Most operators of a condition, as in expressions.
const OPERATORS_MAX: usize = 300;
/// Most values in the list of IN (50 for a partition key, which the access checks).
const IN_MAX: usize = 100;

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Clause {
    And(Vec<Clause>),
    Or(Vec<Clause>),
    Not(Box<Clause>),
    Test(Test),
}

impl Clause {
    /// What must hold all together.
    pub(super) fn conjuncts(self) -> Vec<Clause> {
        match self {
            Self::And(clauses) => clauses.into_iter().flat_map(Self::conjuncts).collect(),
            clause => vec![clause],
        }
    }

    /// Appends the instructions that leave its truth value.
    fn compile(self, out: &mut Vec<Instruction>) {
        match self {
            Self::Test(test) => out.push(Instruction::Test(test)),
            Self::Not(clause) => {
                clause.compile(out);
                out.push(Instruction::Not);
            }
            Self::And(clauses) => join(clauses, false, out),
            Self::Or(clauses) => join(clauses, true, out),
        }
    }
}

/// The first clause that has the truth value `decides` ends it.
fn join(clauses: Vec<Clause>, decides: bool, out: &mut Vec<Instruction>) {
    let mut skips = Vec::with_capacity(clauses.len());
    for (at, clause) in clauses.into_iter().enumerate() {
        if at > 0 {
            skips.push(out.len());
            out.push(Instruction::Skip(decides, 0));
        }
        clause.compile(out);
    }
    let end = out.len() as u32;
    for skip in skips {
        if let Some(instruction) = out.get_mut(skip) {
            *instruction = Instruction::Skip(decides, end);
        }
    }
}

/// The condition that all clauses make together; none if there are none.
pub(super) fn all(clauses: Vec<Clause>) -> Option<Condition> {
    if clauses.is_empty() {
        return None;
    }
    let mut instructions = Vec::new();
    join(clauses, false, &mut instructions);
    Some(Condition::of_instructions(instructions))
}

impl Parser {
    /// `or`, counted.
    pub(super) fn clause(&mut self) -> Result<Clause, ApiError> {
        self.or(LEVELS_MAX)
    }

    fn or(&mut self, levels: usize) -> Result<Clause, ApiError> {
        let mut clauses = vec![self.and(levels)?];
        while self.take_word("OR") {
            self.count_operator()?;
            clauses.push(self.and(levels)?);
        }
        Ok(one_or(clauses, Clause::Or))
    }

    fn and(&mut self, levels: usize) -> Result<Clause, ApiError> {
        let mut clauses = vec![self.not(levels)?];
        while self.take_word("AND") {
            self.count_operator()?;
            clauses.push(self.not(levels)?);
        }
        Ok(one_or(clauses, Clause::And))
    }

    fn not(&mut self, levels: usize) -> Result<Clause, ApiError> {
        let Some(levels) = levels.checked_sub(1) else {
            return Err(texts::malformed(texts::TOO_NESTED));
        };
        if self.take_word("NOT") {
            self.count_operator()?;
            return Ok(Clause::Not(Box::new(self.not(levels)?)));
        }
        if self.peek() == &Token::Sign("(") {
            self.bump();
            let clause = self.or(levels)?;
            self.expect(")")?;
            return Ok(clause);
        }
        self.test()
    }

    fn count_operator(&mut self) -> Result<(), ApiError> {
        self.operators += 1;
        if self.operators > OPERATORS_MAX {
            return Err(texts::malformed(crate::texts::too_many_operators(
                self.operators,
            )));
        }
        Ok(())
    }

    /// A comparison, or a call that is a condition.
    fn test(&mut self) -> Result<Clause, ApiError> {
        self.count_operator()?;
        if let (Token::Word(name), Token::Sign("(")) = (self.peek().clone(), self.second())
            && !name.eq_ignore_ascii_case("size")
        {
            return self.call(&name);
        }
        let left = self.operand()?;
        let test = match self.peek().clone() {
            Token::Sign(sign @ ("=" | "<>" | "!=" | "<" | "<=" | ">" | ">=")) => {
                self.bump();
                let comparison = match sign {
                    "!=" => Comparison::NotEqual,
                    sign => Comparison::of(sign),
                };
                let right = self.operand()?;
                if matches!((&left, &right), (Operand::Value(_), Operand::Value(_))) {
                    return Err(texts::malformed("A condition names no attribute"));
                }
                Test::Compare(comparison, left, right)
            }
            word if word.is("BETWEEN") => {
                self.bump();
                return self.between(left);
            }
            word if word.is("IN") => {
                self.bump();
                Test::In(left, self.list()?)
            }
            word if word.is("NOT") && (self.second().is("IN") || self.second().is("BETWEEN")) => {
                self.bump();
                let inner = if self.take_word("IN") {
                    Clause::Test(Test::In(left, self.list()?))
                } else {
                    self.bump();
                    self.between(left)?
                };
                return Ok(Clause::Not(Box::new(inner)));
            }
            word if word.is("IS") => {
                self.bump();
                let negated = self.take_word("NOT");
                let Operand::Path(path) = left else {
                    return Err(texts::malformed("IS takes an attribute"));
                };
                let test = if self.take_word("MISSING") {
                    if negated {
                        return Ok(Clause::Test(Test::Exists(path)));
                    }
                    Test::NotExists(path)
                } else if self.take_word("NULL") {
                    Test::Type(Operand::Path(path), "NULL".to_owned())
                } else {
                    return Err(self.unexpected());
                };
                let clause = Clause::Test(test);
                return Ok(if negated {
                    Clause::Not(Box::new(clause))
                } else {
                    clause
                });
            }
            _ => return Err(self.unexpected()),
        };
        Ok(Clause::Test(test))
    }

    fn between(&mut self, value: Operand) -> Result<Clause, ApiError> {
        let lower = self.operand()?;
        if !self.take_word("AND") {
            return Err(self.unexpected());
        }
        let upper = self.operand()?;
        Ok(Clause::Test(Test::Between(value, lower, upper)))
    }

    /// The list of IN, in brackets or parentheses.
    fn list(&mut self) -> Result<Vec<Operand>, ApiError> {
        let close = if self.take("[") {
            "]"
        } else {
            self.expect("(")?;
            ")"
        };
        let mut list = Vec::new();
        loop {
            list.push(self.operand()?);
            if list.len() > IN_MAX {
                return Err(texts::too_many_in(IN_MAX));
            }
            if self.take(close) {
                return Ok(list);
            }
            self.expect(",")?;
        }
    }

    fn call(&mut self, name: &str) -> Result<Clause, ApiError> {
        self.bump();
        self.bump();
        let name = name.to_ascii_lowercase();
        if name == "exists" {
            return Err(texts::unsupported(
                "EXISTS can only be used in a transaction",
            ));
        }
        let first = self.operand()?;
        self.expect(",")?;
        let second = self.operand()?;
        self.expect(")")?;
        Ok(Clause::Test(match name.as_str() {
            "begins_with" => Test::BeginsWith(first, second),
            "contains" => Test::Contains(first, second),
            "attribute_type" => match second {
                Operand::Value(AttributeValue::S(kind)) => {
                    const TYPES: [&str; 10] =
                        ["S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS", "M", "L"];
                    if !TYPES.contains(&kind.as_str()) {
                        return Err(texts::malformed(crate::texts::unknown_type(&kind)));
                    }
                    Test::Type(first, kind)
                }
                _ => return Err(texts::malformed("attribute_type takes the name of a type")),
            },
            _ => return Err(texts::malformed(format!("Unknown function: {name}"))),
        }))
    }

    /// A value, an attribute, or the size of one.
    fn operand(&mut self) -> Result<Operand, ApiError> {
        if let Some(value) = self.value()? {
            return Ok(Operand::Value(value));
        }
        if self.peek().is("size") && self.second() == &Token::Sign("(") {
            self.bump();
            self.bump();
            let path = self.path()?;
            self.expect(")")?;
            return Ok(Operand::Size(path));
        }
        self.path().map(Operand::Path)
    }
}

fn one_or(mut clauses: Vec<Clause>, many: fn(Vec<Clause>) -> Clause) -> Clause {
    match clauses.pop() {
        Some(only) if clauses.is_empty() => only,
        Some(last) => {
            clauses.push(last);
            many(clauses)
        }
        None => many(clauses),
    }
}

/// The value that a path must have for the clause to hold, or the values that it may have.
pub(super) fn equals(clause: &Clause, attribute: &str) -> Option<Vec<AttributeValue>> {
    let is_it = |path: &Path| !path.is_nested() && path.head() == attribute;
    match clause {
        Clause::Test(Test::Compare(Comparison::Equal, left, right)) => match (left, right) {
            (Operand::Path(path), Operand::Value(value))
            | (Operand::Value(value), Operand::Path(path))
                if is_it(path) =>
            {
                Some(vec![value.clone()])
            }
            _ => None,
        },
        Clause::Test(Test::In(Operand::Path(path), list)) if is_it(path) => list
            .iter()
            .map(|operand| match operand {
                Operand::Value(value) => Some(value.clone()),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}
