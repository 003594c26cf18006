//! A console over a store in memory, by requests and in a browser.

mod app;
mod browser;
mod changes;
mod guards;
mod live;
mod pages;
mod webdriver;
mod world;
