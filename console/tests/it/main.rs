//! A console over a store in memory, by requests and in a browser.

mod app;
mod browser;
mod changes;
mod drills;
mod guards;
mod live;
mod operator;
mod pages;
mod webdriver;
mod workshop;
mod world;
