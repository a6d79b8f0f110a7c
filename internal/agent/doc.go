// Package agent wires certloom-agent: listeners, tasks, health, and the order in which they stop. What it does is in
// the packages below it.
//
// Nothing here or below may link code that can use a CA key; a test holds the binary to that.
package agent
