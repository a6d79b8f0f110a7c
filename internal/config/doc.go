// Package config owns the server's settings: one strict YAML file becomes a validated Config, and nothing opens
// before all of it is known to be good. It is also the only place that reads the environment.
//
// It must never ignore a setting: an unknown key, a value that cannot be and a file that cannot be read are all
// reported, together, each with the setting's name, the value and the rule. Secrets are never settings; settings
// name the files that hold them.
package config
