//! Tokens to statements.

use model::{ApiError, AttributeValue};

use super::lexer::{Token, tokenize};
use super::statement::{Delete, Exists, Insert, Select, Statement, Target, Update, WriteReturn};
use super::texts;
use crate::path::{Path, Step, check_disjoint};
use crate::projection::Projection;
use crate::texts::Parameter;
use crate::update::{self, Instruction};

/// Most operands of one assignment.
const OPERANDS_MAX: usize = 32;
/// Most paths of one SELECT, UPDATE or ORDER BY.
const PATHS_MAX: usize = 1024;

pub(super) struct Parser {
    tokens: Vec<Token>,
    next: usize,
    parameters: std::vec::IntoIter<AttributeValue>,
    /// So far.
    pub(super) operators: usize,
}

/// Parses a statement; its `?` are the parameters in their order.
pub fn parse(text: &str, parameters: Vec<AttributeValue>) -> Result<Statement, ApiError> {
    let mut parser = Parser {
        tokens: tokenize(text)?,
        next: 0,
        parameters: parameters.into_iter(),
        operators: 0,
    };
    let statement = parser.statement()?;
    parser.take(";");
    if parser.peek() != &Token::End {
        return Err(texts::malformed("Unexpected token after expression"));
    }
    if parser.parameters.next().is_some() {
        return Err(texts::parameter_count());
    }
    Ok(statement)
}

impl Parser {
    pub(super) fn peek(&self) -> &Token {
        self.tokens.get(self.next).unwrap_or(&Token::End)
    }

    pub(super) fn second(&self) -> &Token {
        self.tokens.get(self.next + 1).unwrap_or(&Token::End)
    }

    pub(super) fn bump(&mut self) {
        self.next += 1;
    }

    pub(super) fn take(&mut self, sign: &'static str) -> bool {
        let found = self.peek() == &Token::Sign(sign);
        if found {
            self.bump();
        }
        found
    }

    pub(super) fn expect(&mut self, sign: &'static str) -> Result<(), ApiError> {
        if self.take(sign) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    pub(super) fn take_word(&mut self, keyword: &str) -> bool {
        let found = self.peek().is(keyword);
        if found {
            self.bump();
        }
        found
    }

    fn expect_word(&mut self, keyword: &str) -> Result<(), ApiError> {
        if self.take_word(keyword) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    #[cold]
    pub(super) fn unexpected(&self) -> ApiError {
        texts::unexpected(&self.peek().shown())
    }

    pub(super) fn parameter(&mut self) -> Result<AttributeValue, ApiError> {
        self.parameters.next().ok_or_else(texts::parameter_count)
    }

    fn name(&mut self) -> Result<String, ApiError> {
        match self.peek().clone() {
            Token::Word(name) | Token::Quoted(name) => {
                self.bump();
                Ok(name)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// `name ('.' name | '[' index ']' | '[' 'name' ']')*`
    pub(super) fn path(&mut self) -> Result<Path, ApiError> {
        let mut steps = vec![Step::Name(self.name()?)];
        loop {
            if self.take(".") {
                steps.push(Step::Name(self.name()?));
            } else if self.take("[") {
                match self.peek().clone() {
                    Token::Number(index) => {
                        let index = index.parse().map_err(|_| {
                            texts::malformed(crate::texts::index_out_of_range(&index))
                        })?;
                        steps.push(Step::Index(index));
                    }
                    Token::Text(name) => steps.push(Step::Name(name)),
                    _ => return Err(self.unexpected()),
                }
                self.bump();
                self.expect("]")?;
            } else {
                let levels = steps.len();
                return Path::try_from(steps)
                    .map_err(|_| texts::malformed(crate::texts::path_too_deep(levels)));
            }
        }
    }

    fn component(&mut self) -> Result<String, ApiError> {
        let name = self.name()?;
        if name.is_empty() {
            return Err(texts::empty_component());
        }
        Ok(name)
    }

    fn target(&mut self) -> Result<Target, ApiError> {
        let table = self.component()?;
        let index = if self.take(".") {
            Some(self.component()?)
        } else {
            None
        };
        if self.peek() == &Token::Sign(".") {
            return Err(texts::too_many_components());
        }
        Ok(Target { table, index })
    }

    fn statement(&mut self) -> Result<Statement, ApiError> {
        if self.take_word("SELECT") {
            self.select().map(Statement::Select)
        } else if self.take_word("INSERT") {
            self.insert().map(Statement::Insert)
        } else if self.take_word("UPDATE") {
            self.update(false).map(Statement::Update)
        } else if self.take_word("DELETE") {
            self.delete().map(Statement::Delete)
        } else if self.take_word("EXISTS") {
            self.exists().map(Statement::Exists)
        } else if self.take_word("FROM") {
            self.update(true).map(Statement::Update)
        } else {
            Err(texts::malformed("Expected data manipulation"))
        }
    }

    fn select(&mut self) -> Result<Select, ApiError> {
        let projection = if self.take("*") {
            None
        } else {
            let mut paths = vec![self.path()?];
            while self.take(",") {
                paths.push(self.path()?);
                if paths.len() > PATHS_MAX {
                    return Err(texts::malformed("Too many attributes"));
                }
            }
            check_disjoint(Parameter::Projection, &paths.iter().collect::<Vec<_>>())?;
            Some(Projection::from(paths))
        };
        self.expect_word("FROM")?;
        let target = self.target()?;
        self.no_alias(&["WHERE", "ORDER"])?;
        let clause = if self.take_word("WHERE") {
            Some(self.clause()?)
        } else {
            None
        };
        let mut order = Vec::new();
        if self.take_word("ORDER") {
            self.expect_word("BY")?;
            loop {
                let name = self.name()?;
                let descending = self.take_word("DESC");
                if !descending {
                    self.take_word("ASC");
                }
                order.push((name, descending));
                if order.len() > PATHS_MAX {
                    return Err(texts::malformed("Too many attributes"));
                }
                if !self.take(",") {
                    break;
                }
            }
        }
        Ok(Select {
            target,
            projection,
            clause,
            order,
        })
    }

    /// `EXISTS(SELECT …)`
    fn exists(&mut self) -> Result<Exists, ApiError> {
        self.expect("(")?;
        self.expect_word("SELECT")?;
        let select = self.select()?;
        self.expect(")")?;
        Ok(Exists { select })
    }

    fn insert(&mut self) -> Result<Insert, ApiError> {
        self.expect_word("INTO")?;
        let target = self.target()?;
        if !self.take_word("VALUE") {
            return Err(match self.peek() {
                Token::End => self.unexpected(),
                _ => texts::malformed("Unexpected token after expression"),
            });
        }
        match self.expected_value()? {
            AttributeValue::M(item) => Ok(Insert { target, item }),
            _ => Err(texts::malformed("VALUE takes an item")),
        }
    }

    /// `UPDATE table SET … WHERE …`; reversed it is `FROM table WHERE … SET …`.
    fn update(&mut self, reversed: bool) -> Result<Update, ApiError> {
        let target = self.target()?;
        self.no_alias(&["SET", "REMOVE", "WHERE"])?;
        let (update, clause);
        if reversed {
            self.expect_word("WHERE")?;
            clause = self.clause()?;
            update = self.changes()?;
        } else {
            update = self.changes()?;
            self.expect_word("WHERE")?;
            clause = self.clause()?;
        }
        let returning = self.returning()?;
        Ok(Update {
            target,
            update,
            clause,
            returning,
        })
    }

    /// A name behind a table's that is none of these keywords would be its alias.
    fn no_alias(&self, keywords: &[&str]) -> Result<(), ApiError> {
        let goes_on = keywords.iter().any(|keyword| self.peek().is(keyword));
        match self.peek() {
            Token::Word(_) | Token::Quoted(_) if !goes_on => Err(texts::alias()),
            _ => Ok(()),
        }
    }

    /// `SET …` and `REMOVE …`, at least one.
    fn changes(&mut self) -> Result<update::Update, ApiError> {
        let mut update = update::Update::empty();
        loop {
            if self.take_word("SET") {
                loop {
                    self.assignment(&mut update)?;
                    if !self.take(",") {
                        break;
                    }
                }
            } else if self.take_word("REMOVE") {
                loop {
                    let path = self.path()?;
                    update.remove(path);
                    if !self.take(",") {
                        break;
                    }
                }
            } else {
                break;
            }
        }
        if update.paths().count() == 0 {
            return Err(self.unexpected());
        }
        if update.paths().count() > PATHS_MAX {
            return Err(texts::malformed("Too many attributes"));
        }
        check_disjoint(Parameter::Update, &update.paths().collect::<Vec<_>>())?;
        Ok(update)
    }

    fn delete(&mut self) -> Result<Delete, ApiError> {
        self.expect_word("FROM")?;
        let target = self.target()?;
        self.no_alias(&["WHERE"])?;
        self.expect_word("WHERE")?;
        let clause = self.clause()?;
        let returning = self.returning()?;
        match returning {
            None | Some(WriteReturn::AllOld) => {}
            Some(other) => return Err(texts::delete_returns(other.text())),
        }
        Ok(Delete {
            target,
            clause,
            returning,
        })
    }

    fn returning(&mut self) -> Result<Option<WriteReturn>, ApiError> {
        if !self.take_word("RETURNING") {
            return Ok(None);
        }
        let all = self.take_word("ALL");
        if !all {
            self.expect_word("MODIFIED")?;
        }
        let old = self.take_word("OLD");
        if !old {
            self.expect_word("NEW")?;
        }
        self.expect("*")?;
        Ok(Some(match (all, old) {
            (true, true) => WriteReturn::AllOld,
            (true, false) => WriteReturn::AllNew,
            (false, true) => WriteReturn::ModifiedOld,
            (false, false) => WriteReturn::ModifiedNew,
        }))
    }

    /// `path = term (('+' | '-') term)*`, `path = set_add(path, set)` or `path = set_delete(path, set)`
    fn assignment(&mut self, update: &mut update::Update) -> Result<(), ApiError> {
        let path = self.path()?;
        self.expect("=")?;
        for (function, adds) in [("set_add", true), ("set_delete", false)] {
            if !self.peek().is(function) || self.second() != &Token::Sign("(") {
                continue;
            }
            self.bump();
            self.bump();
            if self.path()? != path {
                return Err(texts::malformed(format!(
                    "{function} changes the attribute that it is assigned to"
                )));
            }
            self.expect(",")?;
            let set = self.expected_value()?;
            self.expect(")")?;
            if !matches!(
                set,
                AttributeValue::StringSet(_)
                    | AttributeValue::NumberSet(_)
                    | AttributeValue::BinarySet(_)
            ) {
                return Err(texts::malformed(crate::texts::operand_type(
                    function,
                    set.type_name(),
                )));
            }
            if adds {
                update.add(path, set);
            } else {
                update.delete(path, set);
            }
            return Ok(());
        }
        let mut program = self.term()?;
        let mut operands = 1;
        loop {
            let instruction = if self.take("+") {
                Instruction::Add
            } else if self.take("-") {
                Instruction::Subtract
            } else {
                break;
            };
            operands += 1;
            if operands > OPERANDS_MAX {
                return Err(texts::malformed("Too many operands"));
            }
            program.extend(self.term()?);
            program.push(instruction);
        }
        update.compute(path, program);
        Ok(())
    }

    /// A value, an attribute, `list_append(a, b)` or `if_not_exists(a, b)` of such.
    fn term(&mut self) -> Result<Vec<Instruction>, ApiError> {
        if let Some(value) = self.value()? {
            return Ok(vec![Instruction::Value(value)]);
        }
        let called = self.second() == &Token::Sign("(");
        if called && self.peek().is("list_append") {
            self.bump();
            self.bump();
            let mut program = self.simple_term()?;
            self.expect(",")?;
            program.extend(self.simple_term()?);
            self.expect(")")?;
            program.push(Instruction::ListAppend);
            return Ok(program);
        }
        if called && self.peek().is("if_not_exists") {
            self.bump();
            self.bump();
            let path = self.path()?;
            self.expect(",")?;
            let otherwise = self.simple_term()?;
            self.expect(")")?;
            let mut program = vec![Instruction::IfExists(path, otherwise.len() as u32)];
            program.extend(otherwise);
            return Ok(program);
        }
        if called {
            return Err(texts::malformed(format!(
                "Unknown function: {}",
                self.peek().shown()
            )));
        }
        self.simple_term()
    }

    fn simple_term(&mut self) -> Result<Vec<Instruction>, ApiError> {
        Ok(vec![match self.value()? {
            Some(value) => Instruction::Value(value),
            None => Instruction::Path(self.path()?),
        }])
    }
}
