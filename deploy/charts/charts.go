// Package charts holds the Helm charts, so that packages for clusters can have them in. It must never change them.
package charts

import (
	"embed"
	"io/fs"
)

//go:embed all:certloom-agent
var files embed.FS

// Agent is the chart of certloom-agent.
func Agent() (fs.FS, error) {
	return fs.Sub(files, "certloom-agent") //nolint:wrapcheck // it names the folder
}
