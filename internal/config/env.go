package config

import "os"

// Env returns the value of an environment variable, "" when it is not set. Commands read the variables that their
// help names through it.
func Env(name string) string { return os.Getenv(name) }
