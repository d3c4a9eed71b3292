//! Key conditions of Query. Owns their form (equality on the partition key, at most one condition on the sort key, joined by AND) and
//! the check against a table's keys. Their syntax is that of conditions; nothing is evaluated here, the keys' encoding does that.

use model::index::IndexKeys;
use model::table::{KeyAttribute, KeySchema, ScalarType};
use model::{ApiError, AttributeValue};
use serde::{Deserialize, Serialize};

use crate::condition::{Comparison, Instruction, Test, resolve};
use crate::operand::Operand;
use crate::parser::{self, OperandId, OperandSyntax, Piece, Syntax};
use crate::path::Path;
use crate::placeholders::Placeholders;
use crate::resolver::function_of;
use crate::texts::{self, Parameter};

/// A resolved key condition: equality on the partition key, and optionally one condition on the sort key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyCondition {
    /// Value of the partition key.
    pub partition: AttributeValue,
    /// Condition on the sort key.
    pub sort: Option<SortCondition>,
}

/// A condition on the sort key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum SortCondition {
    Equal(AttributeValue),
    Less(AttributeValue),
    LessOrEqual(AttributeValue),
    Greater(AttributeValue),
    GreaterOrEqual(AttributeValue),
    Between(AttributeValue, AttributeValue),
    BeginsWith(AttributeValue),
}

/// A key condition whose form was checked, but not yet against a table's keys (which DynamoDB does only once it knows the table).
#[derive(Clone, Debug, PartialEq)]
pub struct KeyTerms {
    /// On different attributes; more than two only where an index has as many.
    terms: Vec<Term>,
}

/// A condition on one attribute.
#[derive(Clone, Debug, PartialEq)]
struct Term {
    attribute: String,
    condition: SortCondition,
}

/// First half of `parse_key_condition`: syntax, placeholders and form.
pub fn parse_key_terms(text: &str, placeholders: &mut Placeholders) -> Result<KeyTerms, ApiError> {
    let (syntax, pieces) = parser::parse_condition(Parameter::KeyCondition, text)?;
    let instructions = resolve(&syntax, &pieces, placeholders)?;
    let bad_operator = first_bad_operator(&pieces);
    let mut terms: Vec<Term> = Vec::with_capacity(2);
    for (at, (piece, instruction)) in pieces.iter().zip(instructions).enumerate() {
        // DynamoDB walks the condition from the outside in: an operator is seen before all that it joins.
        if let Some((begins, operator)) = bad_operator
            && begins <= at
        {
            return Err(ApiError::validation(texts::key_operator(operator)));
        }
        let Instruction::Test(test) = instruction else {
            continue;
        };
        check_form(&syntax, piece)?;
        let term = Term::of(test)?;
        if terms.iter().any(|other| other.attribute == term.attribute) {
            return Err(ApiError::validation(texts::KEY_TWICE));
        }
        terms.push(term);
    }
    for term in &terms {
        term.check_operand()?;
    }
    Ok(KeyTerms { terms })
}

/// The outermost and first OR or NOT: the piece that what it joins begins with, and its name.
fn first_bad_operator(pieces: &[Piece]) -> Option<(usize, &'static str)> {
    pieces
        .iter()
        .enumerate()
        .filter_map(|(at, piece)| match piece {
            Piece::Not { first } => Some((*first, at + 1, "NOT")),
            Piece::Skip {
                when: true,
                to,
                first,
            } => Some((*first, *to, "OR")),
            _ => None,
        })
        .min_by_key(|(first, end, _)| (*first, std::cmp::Reverse(*end)))
        .map(|(first, _, name)| (first, name))
}

/// Checks one test: its operator, and where it names the attribute.
fn check_form(syntax: &Syntax<'_>, piece: &Piece) -> Result<(), ApiError> {
    let refuse = |problem: String| Err(ApiError::validation(problem));
    let operand = |operand: OperandId| syntax.operands.get(operand);
    let is_path = |id| matches!(operand(id), Some(OperandSyntax::Path(_)));
    let mut operands = Vec::new();
    match piece {
        Piece::Compare {
            operator,
            left,
            right,
        } => {
            let operator = operator.text(syntax.text);
            if operator == "<>" {
                return refuse(texts::key_operator(operator));
            }
            operands.extend([*left, *right]);
        }
        Piece::Between {
            value,
            lower,
            upper,
        } => {
            if !is_path(*value) {
                return refuse(texts::key_first_operand("BETWEEN"));
            }
            operands.extend([*value, *lower, *upper]);
        }
        Piece::In { .. } => return refuse(texts::key_operator("IN")),
        Piece::Call(call) => {
            let function = function_of(syntax, *call);
            if function != "begins_with" {
                return refuse(texts::key_operator(function));
            }
            if let Some(OperandSyntax::Call {
                operands: of_call, ..
            }) = operand(*call)
            {
                operands.extend(of_call);
            }
            if !operands.first().is_some_and(|first| is_path(*first)) {
                return refuse(texts::key_first_operand("begins_with"));
            }
        }
        Piece::Not { .. } | Piece::Skip { .. } => {}
    }
    let mut named = false;
    for id in operands {
        match operand(id) {
            Some(OperandSyntax::Path(parts)) => {
                if named {
                    return refuse(texts::KEY_SEVERAL_NAMES.to_owned());
                }
                if parts.len() > 1 {
                    return refuse(texts::KEY_NESTED_ATTRIBUTE.to_owned());
                }
                named = true;
            }
            Some(OperandSyntax::Call { .. }) => {
                return refuse(texts::KEY_NESTED_OPERATION.to_owned());
            }
            _ => {}
        }
    }
    if named {
        Ok(())
    } else {
        refuse(texts::KEY_NO_NAME.to_owned())
    }
}

impl Term {
    /// The term that a test of the right form is; the attribute may stand on either side.
    fn of(test: Test) -> Result<Self, ApiError> {
        match key_term(test) {
            Some((path, condition)) => Ok(Self {
                attribute: path.head().to_owned(),
                condition,
            }),
            None => Err(ApiError::validation(texts::KEY_NO_NAME)),
        }
    }

    /// Whether the operand has a type that its comparison takes on keys.
    fn check_operand(&self) -> Result<(), ApiError> {
        // Whatever else compares is checked where all conditions are.
        let SortCondition::Equal(value) = &self.condition else {
            return Ok(());
        };
        match value {
            AttributeValue::Bool(_)
            | AttributeValue::Null
            | AttributeValue::M(_)
            | AttributeValue::L(_) => {
                let problem = texts::key_operand_type("EQ", value.type_name());
                Err(ApiError::validation(problem))
            }
            _ => Ok(()),
        }
    }
}

/// The attribute and its condition, of a test that has the form of a key condition.
pub(crate) fn key_term(test: Test) -> Option<(Path, SortCondition)> {
    match test {
        Test::Compare(comparison, Operand::Path(path), Operand::Value(value)) => {
            Some((path, compare(comparison, value)?))
        }
        Test::Compare(comparison, Operand::Value(value), Operand::Path(path)) => {
            Some((path, compare(mirrored(comparison), value)?))
        }
        Test::Between(Operand::Path(path), Operand::Value(lower), Operand::Value(upper)) => {
            Some((path, SortCondition::Between(lower, upper)))
        }
        Test::BeginsWith(Operand::Path(path), Operand::Value(prefix)) => {
            Some((path, SortCondition::BeginsWith(prefix)))
        }
        _ => None,
    }
}

fn compare(comparison: Comparison, value: AttributeValue) -> Option<SortCondition> {
    Some(match comparison {
        Comparison::Equal => SortCondition::Equal(value),
        Comparison::NotEqual => return None,
        Comparison::Less => SortCondition::Less(value),
        Comparison::LessOrEqual => SortCondition::LessOrEqual(value),
        Comparison::Greater => SortCondition::Greater(value),
        Comparison::GreaterOrEqual => SortCondition::GreaterOrEqual(value),
    })
}

/// The comparison with its sides exchanged.
fn mirrored(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        same => same,
    }
}

impl KeyTerms {
    /// Of conditions on different attributes.
    pub(crate) fn of_terms(terms: Vec<(String, SortCondition)>) -> Self {
        let terms = terms.into_iter().map(|(attribute, condition)| Term {
            attribute,
            condition,
        });
        Self {
            terms: terms.collect(),
        }
    }

    /// Second half of `parse_key_condition`: against the keys of the table or index.
    pub fn resolve(self, keys: &KeySchema) -> Result<KeyCondition, ApiError> {
        let count = self.terms.len();
        if count > 2 {
            return Err(ApiError::validation(texts::KEY_TERM_COUNT));
        }
        if keys.sort.is_none() && count > 1 {
            return Err(ApiError::validation(texts::KEY_UNSUPPORTED));
        }
        let (mut partition, mut sort) = (None, None);
        for term in self.terms {
            if term.attribute == keys.partition.name {
                partition = Some(term.condition);
            } else if keys
                .sort
                .as_ref()
                .is_some_and(|key| key.name == term.attribute)
            {
                sort = Some(term.condition);
            }
        }
        let missing = |key: &KeyAttribute| ApiError::validation(texts::key_missing(&key.name));
        let partition = partition.ok_or_else(|| missing(&keys.partition))?;
        check_key_values(&keys.partition, &partition)?;
        let SortCondition::Equal(partition) = partition else {
            return Err(ApiError::validation(texts::KEY_UNSUPPORTED));
        };
        if let Some(key) = &keys.sort {
            match &sort {
                Some(condition) => check_key_values(key, condition)?,
                None if count > 1 => return Err(missing(key)),
                None => {}
            }
        }
        Ok(KeyCondition { partition, sort })
    }
}

/// A key condition on an index with any number of key attributes.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexCondition {
    /// Values of the partition key's attributes, then of the first ones of the sort key, in their order.
    pub values: Vec<AttributeValue>,
    /// Condition on the next attribute of the sort key.
    pub sort: Option<SortCondition>,
}

impl KeyTerms {
    /// Same as `resolve`, against the keys of an index: all attributes of its partition key have a value, and those of its sort key from the
    /// first one on, the last of which may have another condition.
    pub fn resolve_index(self, keys: &IndexKeys) -> Result<IndexCondition, ApiError> {
        if let ([partition], [] | [_]) = (&keys.partition[..], &keys.sort[..]) {
            let schema = KeySchema {
                partition: partition.clone(),
                sort: keys.sort.first().cloned(),
            };
            let condition = self.resolve(&schema)?;
            return Ok(match condition.sort {
                Some(SortCondition::Equal(value)) => IndexCondition {
                    values: vec![condition.partition, value],
                    sort: None,
                },
                sort => IndexCondition {
                    values: vec![condition.partition],
                    sort,
                },
            });
        }
        let mut terms = self.terms;
        let mut condition = IndexCondition {
            values: Vec::new(),
            sort: None,
        };
        let partitions = keys.partition.len();
        for (at, key) in keys.partition.iter().chain(&keys.sort).enumerate() {
            let found = terms.iter().position(|term| term.attribute == key.name);
            let Some(found) = found else {
                if at < partitions {
                    return Err(ApiError::validation(texts::key_missing(&key.name)));
                }
                // Nothing may follow what is left out.
                if !terms.is_empty() {
                    let text = gap(&keys.sort[at - partitions..], &terms);
                    let text = text.unwrap_or_else(|| texts::key_missing(&key.name));
                    return Err(ApiError::validation(text));
                }
                break;
            };
            let term = terms.swap_remove(found).condition;
            check_key_values(key, &term)?;
            match term {
                SortCondition::Equal(value) => condition.values.push(value),
                _ if at < partitions || !terms.is_empty() => {
                    let sort = keys.sort.get(at.saturating_sub(partitions)..);
                    let sort = sort.filter(|_| at >= partitions).unwrap_or_default();
                    let text = gap(sort, &terms);
                    let text = text.unwrap_or_else(|| texts::KEY_UNSUPPORTED.to_owned());
                    return Err(ApiError::validation(text));
                }
                other => {
                    condition.sort = Some(other);
                    break;
                }
            }
        }
        match terms.is_empty() {
            true => Ok(condition),
            false => Err(ApiError::validation(texts::KEY_UNSUPPORTED)),
        }
    }
}

/// What to say of a condition on one of these sort key attributes, the first of which has no equality; none: there is none behind that.
fn gap(sort: &[KeyAttribute], terms: &[Term]) -> Option<String> {
    let is_named = |key: &KeyAttribute| terms.iter().any(|term| term.attribute == key.name);
    let behind = sort.iter().skip(1).position(is_named)? + 1;
    let missing: Vec<&str> = sort[..behind].iter().map(|key| key.name.as_str()).collect();
    Some(texts::key_gap(&missing, &sort[behind].name))
}

/// Checks the type of a condition's values against the key, and that they are not empty.
fn check_key_values(key: &KeyAttribute, condition: &SortCondition) -> Result<(), ApiError> {
    let values = match condition {
        SortCondition::Equal(value)
        | SortCondition::Less(value)
        | SortCondition::LessOrEqual(value)
        | SortCondition::Greater(value)
        | SortCondition::GreaterOrEqual(value)
        | SortCondition::BeginsWith(value) => [Some(value), None],
        SortCondition::Between(lower, upper) => [Some(lower), Some(upper)],
    };
    for value in values.into_iter().flatten() {
        let empty = match (key.kind, value) {
            (ScalarType::S, AttributeValue::S(text)) => text.is_empty().then_some("string"),
            (ScalarType::B, AttributeValue::B(bytes)) => bytes.is_empty().then_some("binary"),
            (ScalarType::N, AttributeValue::N(_)) => None,
            _ => return Err(ApiError::validation(texts::KEY_TYPE)),
        };
        if let Some(kind) = empty {
            return Err(ApiError::validation(texts::key_empty(kind, &key.name)));
        }
    }
    Ok(())
}

/// Parses, resolves and checks a key condition against the keys of the table or index.
pub fn parse_key_condition(
    text: &str,
    placeholders: &mut Placeholders,
    keys: &KeySchema,
) -> Result<KeyCondition, ApiError> {
    parse_key_terms(text, placeholders)?.resolve(keys)
}
