#![doc = include_str!("../README.md")]

mod reader;

pub use self::reader::{Error, Kind, Page, Reader, Result, Row};
