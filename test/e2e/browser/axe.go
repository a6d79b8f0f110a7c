package browser

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/certloom/certloom/test/e2e/parts"
)

// Axe judges how accessible pages are, as axe-core does (https://www.deque.com/axe).
type Axe struct{ script string }

// NewAxe brings axe-core from npm, once for all runs.
func NewAxe(ctx context.Context) (*Axe, error) {
	builder, err := parts.NewBuilder(os.Stderr)
	if err != nil {
		return nil, err
	}
	modules, err := builder.EnsureModules(ctx, "axe")
	if err != nil {
		return nil, err
	}
	script, err := os.ReadFile(filepath.Join(modules, "axe-core", "axe.min.js"))
	if err != nil {
		return nil, fmt.Errorf("read axe-core: %w", err)
	}
	return &Axe{script: string(script)}, nil
}

// violation is a rule that a page breaks.
type violation struct {
	ID     string `json:"id"`
	Impact string `json:"impact"`
	Help   string `json:"help"`
	Nodes  []struct {
		Target  []any  `json:"target"`
		Summary string `json:"failureSummary"`
	} `json:"nodes"`
}

// Judge returns what is serious or critical on the page that a tab shows, a sentence each. What is moderate is returned
// apart: headings and landmarks, of which axe-core has opinions.
func (a *Axe) Judge(tab *Tab) (serious, moderate []string) {
	tab.t.Helper()
	// The debugger evaluates it, so that the page's policy need not allow it.
	if !Evaluate[bool](tab, "typeof axe === 'object'") {
		Evaluate[bool](tab, a.script+";true")
	}
	found := Evaluate[[]violation](tab, `axe.run(document, {preload: false, resultTypes: ['violations']}).then(r => r.violations.map(
		v => ({id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.slice(0, 4).map(n => ({target: n.target, failureSummary: n.failureSummary}))})))`)
	for _, v := range found {
		var text strings.Builder
		fmt.Fprintf(&text, "%s (%s): %s", v.ID, v.Impact, v.Help)
		for _, n := range v.Nodes {
			fmt.Fprintf(&text, "\n\t%v: %s", n.Target, strings.ReplaceAll(n.Summary, "\n", " "))
		}
		if slices.Contains([]string{"serious", "critical"}, v.Impact) {
			serious = append(serious, text.String())
		} else {
			moderate = append(moderate, text.String())
		}
	}
	return serious, moderate
}
