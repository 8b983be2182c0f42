#![doc = include_str!("../README.md")]

pub mod postgres;
mod reader;

pub use self::reader::{Error, Keys, Kind, Page, PageSize, Reader, Result, Row};
