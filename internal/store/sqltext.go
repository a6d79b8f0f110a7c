package store

import (
	"slices"
	"strconv"
	"strings"
)

// Lists of values have lengths that are powers of two, so that the texts of statements, and with them the prepared
// statements, are few.

// chunk is the largest power of two that is not above n nor above batchLimit.
func chunk(n int) int {
	size := 1
	for size*2 <= n && size*2 <= batchLimit {
		size *= 2
	}
	return size
}

// texts holds one statement text for each chunk length.
type texts map[int]string

// statementTexts are the statements with lists, made once.
type statementTexts struct {
	events           texts
	certificates     texts
	identities       texts
	claimIdentities  texts
	updateIdentities texts
	words            texts
	chains           texts
	questions        texts
	counters         texts
	deleteExpired    texts
	deleteOrders     texts
	existing         texts
	rollUps          texts
	storeRollUps     texts
}

func newStatementTexts(d *dialect) *statementTexts {
	return &statementTexts{
		events: d.rowsText(`INSERT INTO event (`+eventColumns+`) VALUES `, eventWidth, ""),
		certificates: d.rowsText(`INSERT INTO certificate (`+certificateColumns+`) VALUES `, certificateWidth,
			` ON CONFLICT DO NOTHING`),
		identities: d.listText(`SELECT id, name, newest, cluster, not_before, not_after, renewal FROM identity WHERE name IN `, ` ORDER BY name`+d.forUpdate),
		claimIdentities: d.rowsText(claimIdentity+` VALUES `, claimWidth,
			` ON CONFLICT (name) DO NOTHING RETURNING id, name, newest, '', 0, 0, 0`),
		updateIdentities: d.rowsText(updateIdentity+` VALUES `, identityWidth, updateIdentityConflict),
		words:            d.rowsText(insertWord+` VALUES `, wordWidth, insertedWord),
		chains:           d.chainTexts(),
		questions:        d.typedRowsText(questionHead, questionTypes(), questionTail),
		counters:         d.rowsText(addCounter+` VALUES `, counterWidth, addCounterConflict),
		deleteExpired: d.listText(`DELETE FROM certificate WHERE id <> (SELECT newest FROM identity WHERE identity.id = certificate.identity_id)
			AND id IN `, ` RETURNING id, identity_id, previous, issued_at, key_algorithm, order_id, revoked_at > 0`),
		deleteOrders: d.listText(`DELETE FROM acme_order WHERE id IN `, ""),
		existing:     d.listText(`SELECT id FROM certificate WHERE id IN `, ""),
		rollUps:      d.listText(`SELECT identity_id, certificates, first_issued_at, last_issued_at, algorithms FROM rollup WHERE identity_id IN `, ""),
		storeRollUps: d.rowsText(`INSERT INTO rollup (identity_id, certificates, first_issued_at, last_issued_at, algorithms) VALUES `, rollUpWidth,
			` ON CONFLICT (identity_id) DO UPDATE SET certificates = excluded.certificates, first_issued_at = excluded.first_issued_at,
			last_issued_at = excluded.last_issued_at, algorithms = excluded.algorithms`),
	}
}

// rowsText makes statements with 1, 2, 4 ... rows of values of the given width between head and tail.
func (d *dialect) rowsText(head string, width int, tail string) texts {
	all := texts{}
	for n := 1; n <= batchLimit; n *= 2 {
		rows := make([]string, n)
		for i := range rows {
			rows[i] = d.list(i*width, width)
		}
		all[n] = head + strings.Join(rows, ", ") + tail
	}
	return all
}

// typedRowsText is rowsText where types cannot be guessed.
func (d *dialect) typedRowsText(head string, types []string, tail string) texts {
	all := texts{}
	for n := 1; n <= batchLimit; n *= 2 {
		rows := make([]string, n)
		for i := range rows {
			values := make([]string, len(types))
			for k, name := range types {
				values[k] = d.typed(i*len(types)+k+1, name)
			}
			rows[i] = "(" + strings.Join(values, ", ") + ")"
		}
		all[n] = head + strings.Join(rows, ", ") + tail
	}
	return all
}

// listText makes statements with one list of 1, 2, 4 ... values between head and tail.
func (d *dialect) listText(head, tail string) texts {
	all := texts{}
	for n := 1; n <= batchLimit; n *= 2 {
		all[n] = head + d.list(0, n) + tail
	}
	return all
}

// list writes "($4, $5)" for first 3 and count 2.
func (d *dialect) list(first, count int) string {
	names := make([]string, count)
	for i := range names {
		names[i] = d.placeholder(first + i + 1)
	}
	return "(" + strings.Join(names, ", ") + ")"
}

// where gathers the conditions of a filter. Conditions are fixed texts in which "?" stands for a value; what a
// caller asks for only ever becomes a value.
type where struct {
	conditions []string
	args       []any
}

func (w *where) add(condition string, args ...any) {
	var b strings.Builder
	next := len(w.args)
	for part := range strings.SplitAfterSeq(condition, "?") {
		text, found := strings.CutSuffix(part, "?")
		b.WriteString(text)
		if found {
			next++
			b.WriteString("$" + itoa(next))
		}
	}
	w.conditions = append(w.conditions, b.String())
	w.args = append(w.args, args...)
}

// in adds that a column is one of the values.
func (w *where) in(column string, values []int64) {
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	w.add(column+" IN (?"+strings.Repeat(", ?", len(values)-1)+")", args...)
}

func (w *where) clone() *where {
	return &where{conditions: slices.Clone(w.conditions), args: slices.Clone(w.args)}
}

func itoa(n int) string { return strconv.Itoa(n) }

// equal adds a condition unless the value is "".
func (w *where) equal(column, value string) {
	if value != "" {
		w.add(column+" = ?", value)
	}
}

// prefix is equal, unless the value ends with "*": then the column must begin with what is before. It is a range, for
// the index; the column must be compared by bytes.
func (w *where) prefix(column, value string) {
	head, found := strings.CutSuffix(value, "*")
	switch {
	case !found:
		w.equal(column, value)
	case head != "":
		w.add(column+" >= ? AND "+column+" < ?", head, after(head))
	}
}

// after is the first string that sorts behind all that begin with head.
func after(head string) string {
	raw := []byte(head)
	for i := len(raw) - 1; i >= 0; i-- {
		if raw[i] < 0x7f { // names are ASCII; a byte beyond it would not be text for PostgreSQL
			raw[i]++
			return string(raw[:i+1])
		}
	}
	return "\x7f"
}

// build returns the statement and its arguments. Without an order, the rows come as they are found.
func (w *where) build(head, order string, limit int) (string, []any) {
	var b strings.Builder
	b.WriteString(head)
	for i, condition := range w.conditions {
		if i == 0 {
			b.WriteString(" WHERE ")
		} else {
			b.WriteString(" AND ")
		}
		b.WriteString(condition)
	}
	if order != "" {
		b.WriteString(" ORDER BY " + order)
	}
	args := append(slices.Clone(w.args), int64(limit))
	b.WriteString(" LIMIT $" + itoa(len(args)))
	return b.String(), args
}

// bounded keeps a limit between 1 and 1000; 0 is 100.
func bounded(limit int) int {
	const usual, most = 100, 1000
	switch {
	case limit <= 0:
		return usual
	case limit > most:
		return most
	default:
		return limit
	}
}
