package pki

import "time"

// ViewID is the identifier of a saved view.
type ViewID string

// SavedView is what somebody has chosen in a list of the inventory, to choose it again.
type SavedView struct {
	ID        ViewID
	Owner     string // of whom it is: who else sees it, if it is shared, cannot change it
	List      string // identities or certificates
	Name      string // unique for an owner and a list
	Filters   map[string]string
	Columns   []string
	Shared    bool
	CreatedAt time.Time
	UpdatedAt time.Time
}
