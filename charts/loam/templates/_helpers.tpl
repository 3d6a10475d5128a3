{{- define "loam.name" -}}
{{- printf "%s-operator" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "loam.labels" -}}
app.kubernetes.io/name: loam-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "loam.selector" -}}
app.kubernetes.io/name: loam-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "loam.image" -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}

{{/*
What the operator does where jobs are. It reads no Secret, and can grant no right but the one
that it holds itself: to patch ConfigMaps, which each head pod gets for its own.
*/}}
{{- define "loam.rules" -}}
- apiGroups: [loam.dev]
  resources: [finetunejobs]
  verbs: [get, list, watch]
- apiGroups: [loam.dev]
  resources: [finetunejobs/status]
  verbs: [patch]
- apiGroups: [loam.dev]
  resources: [finetunejobs/finalizers]   # to name a job as an owner that waits for its children
  verbs: [update]
- apiGroups: [ray.io]
  resources: [rayjobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [ray.io]
  resources: [rayclusters]   # workers for which there is no room; those that are done
  verbs: [patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods/log]   # the last lines of an attempt that failed
  verbs: [get]
- apiGroups: [""]
  resources: [events]   # why a pod does not start; what has become of a job
  verbs: [get, list, create, patch]
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]   # why a queue holds a job back
  verbs: [list]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, deletecollection]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, create, deletecollection]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, create, deletecollection]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create, deletecollection]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [list, watch]
{{- end -}}

{{/* A map of labels as "a=b,c=d". */}}
{{- define "loam.pairs" -}}
{{- $pairs := list -}}
{{- range $name, $value := . }}{{ $pairs = append $pairs (printf "%s=%s" $name $value) }}{{ end -}}
{{- join "," $pairs -}}
{{- end -}}
