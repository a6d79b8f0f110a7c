// Package command is certloom-agent's command line: flags into agent.Settings. It owns the names of the flags, which
// are istio-csr's where the meaning is the same.
package command
