//! Syntax to meaning: reserved words, functions, placeholders, operand counts. Owns the checks that all expressions share and their
//! order; what is special to one kind of expression is in that kind's file.

use model::{ApiError, AttributeValue};

use crate::parser::{Mention, OperandId, OperandSyntax, Part, Syntax};
use crate::path::{Path, STEPS_MAX, Step};
use crate::placeholders::Placeholders;
use crate::reserved::is_reserved;
use crate::texts::{self, Parameter};

/// Most operators and functions in one expression.
const OPERATORS_MAX: usize = 300;

/// The functions of all expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    AttributeExists,
    AttributeNotExists,
    AttributeType,
    BeginsWith,
    Contains,
    Size,
    IfNotExists,
    ListAppend,
}

impl Function {
    /// Names are case-sensitive.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "attribute_exists" => Self::AttributeExists,
            "attribute_not_exists" => Self::AttributeNotExists,
            "attribute_type" => Self::AttributeType,
            "begins_with" => Self::BeginsWith,
            "contains" => Self::Contains,
            "size" => Self::Size,
            "if_not_exists" => Self::IfNotExists,
            "list_append" => Self::ListAppend,
            _ => return None,
        })
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AttributeExists => "attribute_exists",
            Self::AttributeNotExists => "attribute_not_exists",
            Self::AttributeType => "attribute_type",
            Self::BeginsWith => "begins_with",
            Self::Contains => "contains",
            Self::Size => "size",
            Self::IfNotExists => "if_not_exists",
            Self::ListAppend => "list_append",
        }
    }

    fn is_for_updates(self) -> bool {
        matches!(self, Self::IfNotExists | Self::ListAppend)
    }

    /// Whether its result may be an operand of something else.
    fn is_operand(self) -> bool {
        matches!(self, Self::Size | Self::IfNotExists)
    }

    fn operand_count(self) -> usize {
        match self {
            Self::AttributeExists | Self::AttributeNotExists | Self::Size => 1,
            _ => 2,
        }
    }
}

/// Resolves the operands of one expression.
pub(crate) struct Resolver<'s, 't, 'p> {
    pub(crate) syntax: &'s Syntax<'t>,
    placeholders: &'p mut Placeholders,
    operators: usize,
}

impl<'s, 't, 'p> Resolver<'s, 't, 'p> {
    pub(crate) fn new(syntax: &'s Syntax<'t>, placeholders: &'p mut Placeholders) -> Self {
        Self {
            syntax,
            placeholders,
            operators: 0,
        }
    }

    /// An error in this expression.
    #[cold]
    pub(crate) fn invalid(&self, problem: impl AsRef<str>) -> ApiError {
        self.syntax.parameter.invalid(problem)
    }

    /// What DynamoDB looks at first, in order of writing: reserved words, list indexes, function names and where functions stand.
    pub(crate) fn check_mentions(&self) -> Result<(), ApiError> {
        let text = self.syntax.text;
        for mention in &self.syntax.mentions {
            match mention {
                Mention::Word(token) if is_reserved(token.text(text)) => {
                    return Err(self.invalid(texts::reserved(token.text(text))));
                }
                Mention::Index(token) if list_index(token.text(text)).is_none() => {
                    return Err(self.invalid(texts::index_out_of_range(token.text(text))));
                }
                Mention::Call(call) => {
                    self.check_call(*call)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_call(&self, call: usize) -> Result<(), ApiError> {
        let Some(call) = self.syntax.calls.get(call) else {
            return Ok(());
        };
        let name = call.name.text(self.syntax.text);
        let Some(function) = Function::named(name) else {
            return Err(self.invalid(texts::unknown_function(name)));
        };
        if self.syntax.parameter == Parameter::Update {
            if !function.is_for_updates() {
                return Err(self.invalid(texts::not_in_update(name)));
            }
            if call.is_operand && !function.is_operand() {
                return Err(self.invalid(texts::misused_function(name)));
            }
        } else {
            if function.is_for_updates() {
                return Err(self.invalid(texts::not_in_condition(name)));
            }
            if call.is_operand != function.is_operand() {
                return Err(self.invalid(texts::misused_function(name)));
            }
        }
        Ok(())
    }

    /// Checks that all names in the whole expression are defined.
    pub(crate) fn check_names(&self) -> Result<(), ApiError> {
        for mention in &self.syntax.mentions {
            if let Mention::Placeholder(token) = mention {
                self.check_name(token.text(self.syntax.text))?;
            }
        }
        Ok(())
    }

    fn check_name(&self, key: &str) -> Result<(), ApiError> {
        match self.placeholders.name(key) {
            Some(_) => Ok(()),
            None => Err(self.invalid(texts::undefined_name(key))),
        }
    }

    /// Checks that the value of an operand, if it is one, is defined.
    pub(crate) fn check_value(&self, operand: OperandId) -> Result<(), ApiError> {
        if let Some(OperandSyntax::Value(token)) = self.syntax.operands.get(operand) {
            let key = token.text(self.syntax.text);
            if self.placeholders.value(key).is_none() {
                return Err(self.invalid(texts::undefined_value(key)));
            }
        }
        Ok(())
    }

    /// Checks that the names and values of an operand (not of its operands) are defined.
    pub(crate) fn check_placeholders(&self, operand: OperandId) -> Result<(), ApiError> {
        if let Some(OperandSyntax::Path(parts)) = self.syntax.operands.get(operand) {
            for part in parts {
                if let Part::Placeholder(token) = part {
                    self.check_name(token.text(self.syntax.text))?;
                }
            }
        }
        self.check_value(operand)
    }

    /// Counts an operator or function.
    pub(crate) fn count_operator(&mut self) -> Result<(), ApiError> {
        self.operators += 1;
        if self.operators > OPERATORS_MAX {
            return Err(self.invalid(texts::too_many_operators(self.operators)));
        }
        Ok(())
    }

    /// The value of a `:value` operand.
    pub(crate) fn value(&mut self, operand: OperandId) -> Result<Option<AttributeValue>, ApiError> {
        let Some(OperandSyntax::Value(token)) = self.syntax.operands.get(operand) else {
            return Ok(None);
        };
        let key = token.text(self.syntax.text);
        match self.placeholders.use_value(key) {
            Some(value) => Ok(Some(value.clone())),
            None => Err(self.invalid(texts::undefined_value(key))),
        }
    }

    /// The path of an operand that is one.
    pub(crate) fn path(&mut self, operand: OperandId) -> Result<Option<Path>, ApiError> {
        let syntax = self.syntax;
        let Some(OperandSyntax::Path(parts)) = syntax.operands.get(operand) else {
            return Ok(None);
        };
        let mut steps = Vec::with_capacity(parts.len());
        for part in parts {
            steps.push(match part {
                Part::Word(token) => Step::Name(token.text(syntax.text).to_owned()),
                Part::Placeholder(token) => {
                    let key = token.text(syntax.text);
                    match self.placeholders.use_name(key) {
                        Some(name) => Step::Name(name.to_owned()),
                        None => return Err(self.invalid(texts::undefined_name(key))),
                    }
                }
                Part::Index(token) => {
                    let index = token.text(syntax.text);
                    match list_index(index) {
                        Some(index) => Step::Index(index),
                        None => return Err(self.invalid(texts::index_out_of_range(index))),
                    }
                }
            });
        }
        if steps.len() > STEPS_MAX {
            return Err(self.invalid(texts::path_too_deep(steps.len())));
        }
        // The grammar lets a path begin with a name only.
        Path::try_from(steps)
            .map(Some)
            .map_err(|no_path| self.invalid(no_path.to_string()))
    }

    /// The function that a call names and the call's operands, after their number was checked.
    pub(crate) fn call(
        &mut self,
        operand: OperandId,
    ) -> Result<Option<(Function, &'s [OperandId])>, ApiError> {
        let syntax = self.syntax;
        let Some(OperandSyntax::Call { operands, .. }) = syntax.operands.get(operand) else {
            return Ok(None);
        };
        let name = function_of(syntax, operand);
        let Some(function) = Function::named(name) else {
            return Err(self.invalid(texts::unknown_function(name)));
        };
        self.count_operator()?;
        if operands.len() != function.operand_count() {
            return Err(self.invalid(texts::operand_count(name, operands.len())));
        }
        Ok(Some((function, operands)))
    }
}

/// Name of the function that a call names.
pub(crate) fn function_of<'t>(syntax: &Syntax<'t>, operand: OperandId) -> &'t str {
    match syntax.operands.get(operand) {
        Some(OperandSyntax::Call { call, .. }) => syntax
            .calls
            .get(*call)
            .map_or("", |call| call.name.text(syntax.text)),
        _ => "",
    }
}

/// List indexes go up to 2³¹ − 1.
fn list_index(text: &str) -> Option<u32> {
    text.parse::<i32>()
        .ok()
        .and_then(|index| u32::try_from(index).ok())
}
